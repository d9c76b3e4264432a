"""The builder of the front end (floor 5): what a program has so far, which launch and loops are open, and what may stand where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from types import CodeType
from typing import Any

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir import build
from tilewright.ir.buffer import Buffer, Region, Scope, format_shape, index
from tilewright.ir.expr import Expr, Op, as_expr, const, convert, var
from tilewright.ir.intrinsic import Intrinsic
from tilewright.ir.lanes import split_value
from tilewright.ir.program import Hint, HostCheck, ImportedSource, Launch, Parameter
from tilewright.ir.stmt import Assert, Assume, AtomicKind, AtomicUpdate, Let, Seq, Stmt, Store
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import subexpressions
from tilewright.language.shared_choices import bind_shared_choices
from tilewright.ops.copy import copy as copy_tile
from tilewright.ops.fill import fill as fill_tile
from tilewright.ops.reducer import store_as_update
from tilewright.spans import callee_of, span_of_caller


class FrameKind(Enum):
    """A construct that is open while its body is traced."""

    LAUNCH = "T.Kernel"
    PARALLEL = "T.Parallel"
    LOOP = "a loop"
    WHILE = "a `while` loop"
    BRANCH = "an `if`"


@dataclass(frozen=True)
class Frame:
    kind: FrameKind
    span: Span
    variables: tuple[Expr, ...] = ()


@dataclass
class LaunchFrame:
    """The launch that is being traced."""

    grid: tuple[Expr, ...]
    block_variables: tuple[Expr, ...]
    threads: tuple[int, int, int]
    thread_variables: tuple[Expr, Expr, Expr]
    span: Span
    buffers: list[Buffer] = field(default_factory=list)
    safe_values: list[tuple[Buffer, Expr]] = field(default_factory=list)
    cluster: tuple[int, int, int] = (1, 1, 1)
    is_thread_level: bool = False
    hints: list[Hint] = field(default_factory=list)
    bound_axes: dict[str, Span] | None = None  # axes that T.thread_binding loops have set, where they make the launch


class ProgramBuilder(build.Builder):
    """Traces one program."""

    def __init__(self, name: str, span: Span) -> None:
        super().__init__()
        self.name, self.span = name, span
        self.parameters: list[Parameter] = []
        self.launches: list[Launch] = []
        self.workspaces: list[Buffer] = []
        self.checks: list[HostCheck] = []
        self.hints: list[Hint] = []
        self.sources: list[ImportedSource] = []
        self.promises: list[Assume] = []  # of T.assume outside a launch; they hold in every launch that follows
        self.frames: list[Frame] = []
        self.ordered: set[Expr] = set()  # indices of parallel loops whose turns have to run one after the other
        self.random: Any = None  # the generator of T.rng_init
        self.launch: LaunchFrame | None = None
        self.thread_reducer: object = None  # what T.attr(T.comm_reducer(...)) has set for the statements inside it
        self.loose_buffers: list[Buffer] = []  # tiles of a function without T.Kernel
        self.returned_at: Span | None = None  # the last `return` that was traced
        self.unopened: dict[Any, Span] = {}  # launches that no `with` has entered
        self.codes: set[CodeType] = set()  # code objects of kernels and macros being traced, for "expanded from"

    def here(self) -> Span:
        """The place in the user's program that is being traced now."""
        return span_of_caller(frozenset(self.codes))

    # -- statements
    def emit(self, stmt: Stmt) -> None:
        if isinstance(stmt, TileOp) and self.is_inside(FrameKind.PARALLEL):
            outer = next(f for f in self.frames if f.kind is FrameKind.PARALLEL)
            fail(
                Kind.TILE_OP_IN_PARALLEL,
                f"{callee_of(stmt.span) or 'an assignment to a region'} is a tile operation, and stands inside T.Parallel",
                (Label(stmt.span), Label(outer.span, "the parallel loop")),
                because="a tile operation is done by the whole block together; T.Parallel gives each iteration to one thread",
                help="move it out of the loop, or write the element operation instead",
            )
        if isinstance(stmt, AtomicUpdate) and stmt.previous is not None and stmt.kind is not AtomicKind.LOAD and self.launch is not None:
            self.launch.is_thread_level |= not self.is_inside(FrameKind.PARALLEL)  # every thread gets another value back
        super().emit(bind_shared_choices(stmt, lambda value: self._named(value, stmt.span)))

    def _named(self, value: Expr, span: Span) -> Expr:
        """A name for a value, made in front of the statement that is being emitted."""
        variable = var("choice", value.dtype)
        super().emit(Let(span, variable, value))
        return variable

    def statement_count(self) -> int:
        """How many statements the innermost open block has."""
        return len(self._blocks[-1])

    def statements_since(self, count: int) -> list[Stmt]:
        """Those of the innermost open block after the first `count`."""
        return self._blocks[-1][count:]

    def is_inside(self, kind: FrameKind) -> bool:
        return any(f.kind is kind for f in self.frames)

    @contextmanager
    def frame(self, kind: FrameKind, span: Span, variables: tuple[Expr, ...] = ()) -> Iterator[None]:
        self.frames.append(Frame(kind, span, variables))
        try:
            yield
        finally:
            self.frames.pop()

    def before_launch(self) -> None:
        """Called where a launch begins; the front end of eager functions stops its first pass here."""

    def declare_parameter(self, name: str, annotation: Any, value: Any) -> Any:
        """A bare `name: annotation` in the body; what the name stands for afterwards. Only eager functions declare parameters so."""
        return value

    def assert_on_host(self, condition: Expr, message: str) -> None:
        """`assert` on a kernel value: outside a launch it is checked when the kernel is called."""
        if self.launch is not None:
            self.emit(Assert(self.here(), condition, message))
        else:
            self.checks.append(HostCheck(condition, message, self.here()))

    def check_on_call(self, condition: Expr, message: str, span: Span) -> None:
        """A condition on sizes that must hold whenever the kernel is called."""
        self.checks.append(HostCheck(condition, message, span))

    def require_launch(self, what: str, span: Span) -> LaunchFrame:
        """The open launch; a diagnostic naming `what` where there is none."""
        if self.launch is None:
            fail(
                Kind.LAUNCH_MISSING,
                f"{what} stands outside a launch",
                span,
                because="tiles belong to a block, and blocks exist only inside `with T.Kernel(...)`",
                help="move it below the `with T.Kernel(...)` line",
            )
        return self.launch

    def add_buffer(self, buffer: Buffer) -> Buffer:
        """Registers a tile of the open launch (or of the launch that a function without T.Kernel becomes)."""
        if self.launch is not None:
            self.launch.buffers.append(buffer)
        else:
            self.loose_buffers.append(buffer)
        return buffer

    def finish(self, statements: list[Stmt]) -> None:
        """Turns statements outside any launch into a launch of one block and one thread, where there is no other launch."""
        for span in self.unopened.values():
            fail(
                Kind.LAUNCH_MISSING,
                f"{callee_of(span) or 'T.Kernel'} is called, but no `with` opens the launch",
                span,
                because="the blocks run what stands inside `with T.Kernel(...)`",
                help="write `with T.Kernel(...) as bx:` and indent the statements below it",
            )
        if not statements and not self.loose_buffers:
            return
        if self.launches:
            loose = statements[0].span if statements else self.loose_buffers[0].span
            fail(
                Kind.LAUNCH_MISSING,
                "a statement stands outside the launches of this function"
                if statements
                else f"{self.loose_buffers[0].name} is allocated outside the launches of this function",
                loose,
                because="outside `with T.Kernel(...)` only shapes, workspaces and Python values are computed",
                help="move it into one of the launches",
            )
        zero = (var("tx"), var("ty"), var("tz"))
        self.launches.append(
            Launch((const(1),), (var("bx"),), (1, 1, 1), zero, tuple(self.loose_buffers), Seq(self.span, (*self.promises, *statements)), self.span)
        )

    # -- values
    def let(self, name: str, value: Expr) -> Expr:
        """Evaluates an expression here and names it."""
        variable = var(name, value.dtype)
        self.emit(Let(self.here(), variable, value))
        return variable

    def snapshot(self, value: Any, name: str = "value") -> Any:
        """The value as it is now: what reads memory, or must happen once, is evaluated here."""
        if isinstance(value, Buffer) and value.scope is Scope.VARIABLE and is_named(value):
            value = value.as_expression()
        if isinstance(value, Expr):
            return self.let(name, value) if is_volatile(value) else value
        if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
            made = [self.snapshot(v, name) for v in value]
            return value if all(a is b for a, b in zip(made, value, strict=True)) else type(value)(made)
        if isinstance(value, Region):
            starts = tuple(self.snapshot(s, name) for s in value.starts)
            extents = tuple(self.snapshot(n, name) for n in value.extents)
            return Region(value.buffer, starts, extents, value.is_slice, value.span)
        return value

    # -- stores
    def store(self, buffer: Buffer, key: Any, value: Any) -> None:
        """`buffer[key] = value`: an element, or a region that takes a tile or one value everywhere."""
        self.store_region(index(buffer, key), value)

    def store_region(self, target: Any, value: Any) -> None:
        span = self.here()
        if isinstance(target, Region):
            if isinstance(value, Region) or (isinstance(value, Buffer) and value.scope is not Scope.VARIABLE):
                copy_tile(value, target)
            else:
                fill_tile(target, value)
            return
        if target.op is not Op.LOAD:
            self._store_lanes(target, as_expr(value), span)
            return
        self.check_store(target.buffer, target.args, span)
        stored = as_expr(value)
        if target.buffer.scope is not Scope.REDUCER or not store_as_update(target, stored, span):
            self.emit(Store(span, target.buffer, target.args, convert(stored, target.dtype)))

    def _store_lanes(self, target: Expr, value: Expr, span: Span) -> None:
        """`B[T.Ramp(...)] = value`: each lane of the value, or the one value, to the element of its lane."""
        stored = self.snapshot(convert(value, target.dtype))
        for element, lane in zip(split_value(target), split_value(stored), strict=True):
            self.check_store(element.buffer, element.args, span)
            self.emit(Store(span, element.buffer, element.args, lane))

    def check_store(self, buffer: Buffer, indices: tuple[Expr, ...], span: Span) -> None:
        """A diagnostic where an element may not be written here."""
        if buffer.scope in (Scope.LOCAL, Scope.VARIABLE):
            self.check_local(buffer, indices, span)

    def check_local(self, buffer: Buffer, indices: tuple[Expr, ...], span: Span) -> None:
        parallel = {v for f in self.frames if f.kind is FrameKind.PARALLEL for v in f.variables}
        used = [v for i in indices for v in subexpressions(i) if v.op is Op.VAR and v in parallel]
        if used:
            fail(
                Kind.LOCAL_BY_PARALLEL,
                f"{buffer.name} ({format_shape(buffer)}) is local to each thread, but it is indexed by the parallel variable `{used[0]}`",
                (Label(span), Label(buffer.span, f"{buffer.name} is allocated here")),
                because="which thread runs an iteration is the compiler's choice, so another thread's copy would be meant",
                help="allocate it with T.alloc_fragment or T.alloc_shared",
            )


def is_volatile(value: Expr) -> bool:
    """Whether an expression may give something else when it is evaluated later."""
    return any(
        node.op is Op.LOAD or (node.op is Op.CALL and isinstance(node.attribute, Intrinsic) and not node.attribute.is_pure) for node in subexpressions(value)
    )


def is_named(buffer: Buffer) -> bool:
    return not buffer.name.startswith("<")


def name_buffer(buffer: Buffer, name: str) -> None:
    """Gives a fresh buffer the name of the Python variable it was assigned to."""
    if not is_named(buffer):
        object.__setattr__(buffer, "name", name)


def program_builder() -> ProgramBuilder:
    """The active builder of the front end."""
    builder = build.current()
    assert isinstance(builder, ProgramBuilder)
    return builder
