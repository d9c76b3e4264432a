"""What rewritten code calls while it runs: names, branches, loops and operators of a kernel being traced (floor 5)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import CodeType
from typing import Any

from tilewright.dtypes import DType
from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.buffer import Buffer, Region, Scope, format_shape
from tilewright.ir.expr import Expr, Op, as_condition, ceildiv, const, describe_operand, logical, select, unary, var
from tilewright.ir.stmt import Break, Continue, For, If, Let, LoopKind, ParallelFor, ReduceLoop, Seq, Stmt, While
from tilewright.ir.visit import subexpressions
from tilewright.language.builder import FrameKind, ProgramBuilder, is_named, name_buffer, program_builder
from tilewright.language.loops import BindingLoop, LoopRange, ParallelRange, PersistentRange, SerialRange, range_loop
from tilewright.language.loop_checks import can_end, check_pipeline
from tilewright.spans import span_of_caller

Reader = Callable[[], Any]
Place = tuple[Any, ...]  # a name, and where it is changed: line, column, end line, end column

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mult": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
    "FloorDiv": lambda a, b: a // b,
    "Mod": lambda a, b: a % b,
    "Pow": lambda a, b: a**b,
    "BitAnd": lambda a, b: a & b,
    "BitOr": lambda a, b: a | b,
    "BitXor": lambda a, b: a ^ b,
    "LShift": lambda a, b: a << b,
    "RShift": lambda a, b: a >> b,
    "MatMult": lambda a, b: a @ b,
}
_SYMBOLS = {
    "Add": "+",
    "Sub": "-",
    "Mult": "*",
    "Div": "/",
    "FloorDiv": "//",
    "Mod": "%",
    "Pow": "**",
    "BitAnd": "&",
    "BitOr": "|",
    "BitXor": "^",
    "LShift": "<<",
    "RShift": ">>",
    "MatMult": "@",
}


class _Unbound(Enum):
    UNBOUND = 0


class PoisonReason(Enum):
    """Why a name has no value where it is read."""

    UNBOUND = "is not bound"
    BRANCH = "was bound inside a branch that is decided when the kernel runs"
    LOOP = "was bound inside a loop"


@dataclass(frozen=True)
class Poison:
    """The value of a name that may not be read here, with the reason to report."""

    reason: PoisonReason
    span: Span

    def describe(self) -> str:
        return f"a name that {self.reason.value} (line {self.span.line})"


@dataclass(frozen=True, eq=False)
class Carried:
    """The value of a scalar's name at the start of a loop's body: right in every turn, unless the body binds the name after reading it."""

    value: Any
    reads: list[Span]

    def describe(self) -> str:
        return "a name that a loop binds"


def peek(reader: Reader) -> Any:
    """The value of a Python name now, or UNBOUND."""
    try:
        return reader()
    except NameError:
        return _Unbound.UNBOUND


class Tracer:
    """One run of a rewritten function. Macros have a tracer of their own on the same builder."""

    def __init__(self, builder: ProgramBuilder) -> None:
        self.builder = builder
        self.depth = len(builder.frames)
        self.range = range_loop

    # -- names
    def read(self, name: str, value: Any) -> Any:
        """A name that some branch or loop binds; a diagnostic where its value is unknown here."""
        if isinstance(value, Carried):
            value.reads.append(self.builder.here())
            return self.read(name, value.value)
        if not isinstance(value, Poison):
            return value
        here = self.builder.here()
        if value.reason is PoisonReason.UNBOUND:
            fail(Kind.UNKNOWN_NAME, f"the name `{name}` is not bound here", here, because="no assignment to it has been traced", help="assign it first")
        is_branch = value.reason is PoisonReason.BRANCH
        fail(
            Kind.BRANCH_BINDING if is_branch else Kind.LOOP_REBINDING,
            f"`{name}` {value.reason.value}, so its value is not known here",
            (Label(here), Label(value.span, "the branch" if is_branch else "the loop")),
            because="a plain name is one value, fixed when the kernel is traced",
            help=_variable_help(name),
        )

    def bind(self, name: str, value: Any, reader: Reader) -> Any:
        """`name = value`."""
        old = peek(reader)
        if isinstance(old, Buffer) and old.scope is Scope.VARIABLE and not _is_buffer(value):
            self.builder.store(old, 0, value)
            return old
        if isinstance(value, Buffer) and not is_named(value):
            name_buffer(value, name)
            return value
        return self.builder.snapshot(value, name)

    def snapshot(self, value: Any) -> Any:
        return self.builder.snapshot(value)

    def unpack(self, value: Any, count: int) -> tuple[Any, ...]:
        """The right side of `a, b = value`: read whole before anything is stored."""
        if isinstance(value, (Buffer, Region)):
            fail(
                Kind.UNPACK_COUNT,
                f"{describe_operand(value)} cannot be unpacked into {count} names",
                self.builder.here(),
                because="unpacking needs a Python tuple or list",
                help="index the elements one by one",
            )
        if isinstance(value, Expr) or not isinstance(value, Iterable):
            fail(
                Kind.UNPACK_COUNT,
                f"{describe_operand(value)} cannot be unpacked into {count} names",
                self.builder.here(),
                because="unpacking needs a Python tuple or list",
                help="write as many values as names",
            )
        values = tuple(value)
        if len(values) != count:
            fail(
                Kind.UNPACK_COUNT,
                f"{len(values)} value{'s' * (len(values) != 1)} cannot be unpacked into {count} names",
                self.builder.here(),
                because="each name takes exactly one value",
                help=f"write {len(values)} names, or {count} values",
            )
        return tuple(self.builder.snapshot(v) for v in values)

    def annotate(self, name: str, annotation: Any, reader: Reader) -> Any:
        """A bare `name: annotation`: in eager functions it says what a parameter is; elsewhere it declares nothing."""
        made = self.builder.declare_parameter(name, annotation, peek(reader))
        if made is _Unbound.UNBOUND:
            return Poison(PoisonReason.UNBOUND, self.builder.here())
        return made

    def augment(self, name: str, operator: str, current: Any, value: Any) -> Any:
        """`name op= value`."""
        if isinstance(current, Buffer) and current.scope is not Scope.VARIABLE:
            indices = ", ".join("ijkl"[: current.rank])
            fail(
                Kind.AUGMENTED_BUFFER,
                f"`{name} {_SYMBOLS[operator]}= ...` updates the whole tile {name} ({format_shape(current)})",
                self.builder.here(),
                because="arithmetic works on elements; a tile is updated element by element",
                help=f"write for {indices} in T.Parallel({', '.join(map(str, current.shape))}): {name}[{indices}] {_SYMBOLS[operator]}= ...",
            )
        if isinstance(current, Region):
            fail(
                Kind.AUGMENTED_BUFFER,
                f"`{name} {_SYMBOLS[operator]}= ...` updates the region {current}",
                self.builder.here(),
                because="arithmetic works on elements",
                help="loop over its elements with T.Parallel",
            )
        combined = _OPERATORS[operator](current, value)
        if isinstance(current, Buffer):
            self.builder.store(current, 0, combined)
            return current
        return self.builder.snapshot(combined, name)

    def augment_item(self, container: Any, key: Any, operator: str, value: Any) -> None:
        """`container[key] op= value`."""
        current = container[key]
        combined = _OPERATORS[operator](current, value)
        if isinstance(current, Buffer) and current.scope is Scope.VARIABLE:
            self.builder.store(current, 0, combined)
        else:
            container[key] = combined

    # -- operators
    def equal(self, left: Any, right: Any) -> Any:
        _refuse_comparison(left, right, "==")
        return left.as_expression() == right if isinstance(left, (Buffer, Region)) else left == right

    def not_equal(self, left: Any, right: Any) -> Any:
        _refuse_comparison(left, right, "!=")
        return left.as_expression() != right if isinstance(left, (Buffer, Region)) else left != right

    def all_of(self, *operands: Callable[[], Any]) -> Any:
        return self._chain(Op.AND, operands)

    def any_of(self, *operands: Callable[[], Any]) -> Any:
        return self._chain(Op.OR, operands)

    def _chain(self, op: Op, operands: tuple[Callable[[], Any], ...]) -> Any:
        result: Any = None
        symbolic: Expr | None = None
        for operand in operands:
            value = operand() if symbolic is None else self._on_demand(operand, f"`{op.value}`")
            if self._is_symbolic(value):
                condition = self._condition(value)
                symbolic = condition if symbolic is None else logical(op, symbolic, condition)
                result = symbolic
            elif symbolic is not None:
                result = symbolic = logical(op, symbolic, bool(value))
            else:
                result = value
                if bool(value) is (op is Op.OR):
                    return value
            if symbolic is not None and symbolic.is_const and symbolic.value is (op is Op.OR):
                return symbolic
        return result

    def _on_demand(self, part: Callable[[], Any], what: str) -> Any:
        """A part of an expression that the kernel evaluates only where it is needed: it cannot be a statement, which would always run."""
        before = self.builder.statement_count()
        value = part()
        for statement in self.builder.statements_since(before):
            if not isinstance(statement, ReduceLoop):  # T.any_of and T.all_of, which change nothing
                fail(
                    Kind.STATEMENT,
                    f"a part of {what} makes a statement",
                    statement.span,
                    because="the kernel evaluates that part on demand, but a statement runs whenever its turn comes",
                    help="write an `if` with the statement in it, or compute the value before",
                )
        return value

    def negate(self, value: Any) -> Any:
        return unary(Op.NOT, self._condition(value)) if self._is_symbolic(value) else not value

    def ternary(self, condition: Any, if_true: Callable[[], Any], if_false: Callable[[], Any]) -> Any:
        """`a if condition else b`: lazy, so that only the taken side is evaluated when the kernel runs."""
        if not self._is_symbolic(condition):
            return if_true() if condition else if_false()
        decided = self._condition(condition)
        if decided.is_const:
            return if_true() if decided.value else if_false()
        return select(decided, self._on_demand(if_true, "a ternary"), self._on_demand(if_false, "a ternary"), is_lazy=True)

    @staticmethod
    def _is_symbolic(value: Any) -> bool:
        return isinstance(value, (Expr, Buffer, Region))

    def _condition(self, value: Any) -> Expr:
        if isinstance(value, Buffer) and value.scope is not Scope.VARIABLE:
            bool(value)
        return as_condition(value)

    # -- control flow
    def condition(self, value: Any) -> Expr | bool:
        """The test of an `if`."""
        return self._condition(value) if self._is_symbolic(value) else bool(value)

    def branch(
        self, condition: Expr | bool, names: tuple[str, ...], readers: tuple[Reader, ...], places: tuple[Place, ...], containers: tuple[Reader, ...]
    ) -> BranchState:
        return BranchState(self.builder, condition, names, readers, places, containers)

    def loop(
        self,
        iterable: Any,
        width: int,
        target_names: tuple[str, ...],
        names: tuple[str, ...],
        readers: tuple[Reader, ...],
        places: tuple[Place, ...],
        containers: tuple[Reader, ...],
    ) -> LoopState:
        if not isinstance(iterable, LoopRange):
            fail(
                Kind.LOOP_ITERABLE,
                f"{describe_operand(iterable)} cannot be looped over inside a kernel",
                self.builder.here(),
                because="a kernel loop runs over a range: range, T.serial, T.unroll, T.vectorized, T.Parallel, T.Pipelined, T.grid or T.Persistent",
                help="build Python values with a comprehension, or loop over their indices with range(...)",
            )
        return LoopState(self.builder, iterable, width, target_names, names, readers, places, containers)

    def while_loop(self, names: tuple[str, ...], readers: tuple[Reader, ...], places: tuple[Place, ...], containers: tuple[Reader, ...]) -> WhileState:
        return WhileState(self.builder, names, readers, places, containers)

    def break_loop(self) -> None:
        self.builder.emit(Break(self._loop_control("break")))

    def continue_loop(self) -> None:
        self.builder.emit(Continue(self._loop_control("continue")))

    def _loop_control(self, what: str) -> Span:
        return check_loop_control(self.builder, what)

    def context(self, manager: Any, width: int, names: tuple[str, ...]) -> Any:
        """A `with` item: launches check how many names they are unpacked into."""
        check = getattr(manager, "check_targets", None)
        if check is not None:
            check(width, names)
        return manager

    def assert_that(self, condition: Any, message: Callable[[], Any]) -> None:
        if not self._is_symbolic(condition):
            if not condition:
                raise AssertionError(message())
            return
        self.builder.assert_on_host(self._condition(condition), str(message()))

    def returning(self, value: Any) -> Any:
        """`return value`: only at the top of a kernel or macro."""
        dynamic = [f for f in self.builder.frames[self.depth :] if f.kind is not FrameKind.LAUNCH or value is not None]
        self.builder.returned_at = here = self.builder.here()
        if dynamic and dynamic[-1].kind is FrameKind.LAUNCH:
            fail(
                Kind.RETURN_PLACE,
                "`return` with a value stands inside a launch",
                (Label(here), Label(dynamic[-1].span, "the launch")),
                because="the blocks of a launch write to tensors; the function returns them when the launch is done",
                help="write it after the `with` block, at its level",
            )
        if dynamic:
            fail(
                Kind.RETURN_PLACE,
                f"`return` stands inside {dynamic[-1].kind.value}",
                (Label(here), Label(dynamic[-1].span, "opened here")),
                because="when the kernel runs, a block cannot leave in the middle",
                help="put what follows under the opposite condition, or return after it",
            )
        return self.builder.snapshot(value)

    def expression(self, value: Any) -> None:
        """A statement that is only an expression: its effect, if any, has been traced already."""


def check_loop_control(builder: ProgramBuilder, what: str) -> Span:
    """The place of a `break` or `continue`; a diagnostic where no serial loop is open."""
    span = builder.here()
    for frame in reversed(builder.frames):
        if frame.kind in (FrameKind.LOOP, FrameKind.WHILE):
            return span
        if frame.kind is FrameKind.PARALLEL:
            fail(
                Kind.LOOP_CONTROL,
                f"`{what}` stands inside T.Parallel",
                (Label(span), Label(frame.span, "the parallel loop")),
                because="the iterations of T.Parallel are independent: there is no next one to go to, and none that others wait for",
                help="use `if` around the statements, or a T.serial loop",
            )
    fail(Kind.LOOP_CONTROL, f"`{what}` stands outside a loop", span, because="it belongs to the innermost serial, unrolled or while loop", help="remove it")


def loop_break() -> None:
    """`T.loop_break()`: leaves the innermost serial, unrolled or while loop."""
    builder = program_builder()
    builder.emit(Break(check_loop_control(builder, "T.loop_break()")))


def _is_buffer(value: Any) -> bool:
    """Whether assigning this to a variable's name rebinds the name: a tile, or a variable that has just been allocated."""
    return isinstance(value, Region) or (isinstance(value, Buffer) and (value.scope is not Scope.VARIABLE or not is_named(value)))


class _Scoped:
    """Names that a branch or loop binds: what they were before, and what may be known of them afterwards."""

    is_dynamic = True

    def __init__(
        self, builder: ProgramBuilder, names: tuple[str, ...], readers: tuple[Reader, ...], places: tuple[Place, ...], containers: tuple[Reader, ...]
    ) -> None:
        self.builder, self.names = builder, names
        self.span = builder.here()
        self.before = [_bound(peek(r), self.span) for r in readers]
        held = [(place, peek(reader)) for place, reader in zip(places, containers, strict=True)]
        self.containers = [(place, value, _contents(value)) for place, value in held if isinstance(value, (list, dict, set, bytearray))]

    def check_containers(self) -> None:
        """A diagnostic where a Python list, dictionary or set was changed: it would not change as often as the kernel runs the block."""
        for (name, *position), value, contents in self.containers:
            if self.is_dynamic and not _is_same(_contents(value), contents):
                where = "a branch" if isinstance(self, BranchState) else "a loop"
                fail(
                    Kind.CONTAINER_MUTATION,
                    f"the {type(value).__name__} `{name}` changes inside {where} of the kernel",
                    (Label(Span(self.span.file, *position)), Label(self.span, where)),
                    because="a block is traced once, whether the kernel runs it never, once or many times; a Python object changes as it is traced",
                    help="keep what changes when the kernel runs in a T.alloc_var or a tile, or build the object before the block",
                )


def _bound(value: Any, span: Span) -> Any:
    return Poison(PoisonReason.UNBOUND, span) if value is _Unbound.UNBOUND else value


def _contents(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [x for item in value.items() for x in item]
    return sorted(value, key=id) if isinstance(value, set) else list(value)


def _is_same(now: list[Any], before: list[Any]) -> bool:
    return len(now) == len(before) and all(a is b or _is_same_value(a, b) for a, b in zip(now, before, strict=True))


def _is_same_value(a: Any, b: Any) -> bool:
    """One value for the kernel: one object, or equal constants. Two unbound names are alike."""
    a, b = a.value if isinstance(a, Carried) else a, b.value if isinstance(b, Carried) else b
    if isinstance(a, Poison) and isinstance(b, Poison):
        return a.reason is b.reason
    return a is b or (type(a) is type(b) and isinstance(a, (bool, int, float, str, DType)) and a == b)


def _variable_help(name: str) -> str:
    return f"declare `{name} = T.alloc_var(dtype, init=...)` before it: assignments to a variable are stores"


def _refuse_comparison(left: Any, right: Any, operator: str) -> None:
    tiles = [x for x in (left, right) if isinstance(x, Buffer) and x.scope is not Scope.VARIABLE]
    if len(tiles) == 2:
        a, b = tiles[0].name, tiles[1].name
        fail(
            Kind.BUFFER_OPERATOR,
            f"`{a} {operator} {b}` compares two whole buffers ({format_shape(tiles[0])} and {format_shape(tiles[1])})",
            span_of_caller(),
            because="a comparison works on elements, and a tile has many",
            help=f"compare elements inside T.Parallel; `{a} is {'not ' * (operator == '!=')}{b}` asks whether both names mean one buffer",
        )


class _LoopScope(_Scoped):
    """What `for` and `while` share: the body is traced once for all turns."""

    def enter(self, readers: tuple[Reader, ...]) -> list[Any]:
        """At the start of the body: what the names were before the loop."""
        self.entered = [Carried(v, []) if isinstance(v, (Expr, bool, int, float)) else v for v in self.before]
        return self.entered

    def leave(self, readers: tuple[Reader, ...]) -> list[Any]:
        """Afterwards: a name that the body left alone keeps its value; any other may not be read."""
        self.check_containers()
        result: list[Any] = []
        for position, reader in enumerate(readers):
            now = _bound(peek(reader), self.span)
            if position >= len(self.before):  # the loop's own index
                result.append(now if isinstance(now, Poison) else Poison(PoisonReason.LOOP, self.span))
                continue
            old, entered = self.before[position], self.entered[position]
            if _is_same_value(now, old):
                result.append(old)
                continue
            if isinstance(entered, Carried) and entered.reads:
                name = self.names[position]
                fail(
                    Kind.LOOP_REBINDING,
                    f"`{name}` is carried from one turn of the loop to the next",
                    (Label(entered.reads[0], "read here"), Label(self.span, "the loop")),
                    because="a plain name is one value, fixed when the kernel is traced, and the body is traced once for all turns",
                    help=_variable_help(name),
                )
            is_poisoned = isinstance(now, Poison) and now.reason is not PoisonReason.UNBOUND
            result.append(now if is_poisoned else Poison(PoisonReason.LOOP, self.span))
        return result


class BranchState(_Scoped):
    """`if`: one path where the condition is known, both where it is not."""

    def __init__(
        self,
        builder: ProgramBuilder,
        condition: Expr | bool,
        names: tuple[str, ...],
        readers: tuple[Reader, ...],
        places: tuple[Place, ...],
        containers: tuple[Reader, ...],
    ) -> None:
        super().__init__(builder, names, readers, places, containers)
        self.condition = condition.value if isinstance(condition, Expr) and condition.is_const else condition
        self.is_dynamic = isinstance(self.condition, Expr)
        self.is_entered = False
        self.after_first: list[Any] | None = None

    def __iter__(self) -> Iterator[bool]:
        if not isinstance(self.condition, Expr):
            yield bool(self.condition)
            return
        condition = self.builder.snapshot(self.condition, "condition")
        bodies: list[list[Stmt]] = []
        variables = tuple(n for n in subexpressions(self.condition) if n.op is Op.VAR)
        with self.builder.frame(FrameKind.BRANCH, self.span, variables):
            for taken in (True, False):
                with self.builder.block() as body:
                    yield taken
                bodies.append(body)
        if bodies[0] or bodies[1]:
            otherwise = Seq(self.span, tuple(bodies[1])) if bodies[1] else None
            self.builder.emit(If(self.span, condition, Seq(self.span, tuple(bodies[0])), otherwise))

    def enter(self, readers: tuple[Reader, ...]) -> list[Any]:
        """At the start of each path: what the names were before the `if`."""
        if self.is_entered:
            self.after_first = [_bound(peek(r), self.span) for r in readers]
        self.is_entered = True
        return self.before

    def leave(self, readers: tuple[Reader, ...]) -> list[Any]:
        """Afterwards: a name that has one value on both paths keeps it; any other may not be read."""
        self.check_containers()
        last = [_bound(peek(r), self.span) for r in readers]
        if not self.is_dynamic:
            return last
        first = self.after_first or last
        return [a if _is_same_value(a, b) else Poison(PoisonReason.BRANCH, self.span) for a, b in zip(first, last, strict=True)]


class LoopState(_LoopScope):
    """`for`: the body is traced once."""

    def __init__(
        self,
        builder: ProgramBuilder,
        range_: LoopRange,
        width: int,
        targets: tuple[str, ...],
        names: tuple[str, ...],
        readers: tuple[Reader, ...],
        places: tuple[Place, ...],
        containers: tuple[Reader, ...],
    ) -> None:
        super().__init__(builder, names, readers, places, containers)
        self.range, self.width, self.targets = range_, width, targets

    def __iter__(self) -> Iterator[Any]:
        expected = len(self.range.extents) if self.range.is_tuple else 1
        given = self.width or 1
        if given != expected and not (self.width == 0 and self.range.is_tuple):
            fail(
                Kind.LOOP_UNPACK,
                f"the loop has {expected} ind{'ices' if expected > 1 else 'ex'}, but {given} name{'s' * (given > 1)}",
                self.span,
                because=f"{self.range.text} gives one index per extent",
                help=f"write {expected} name{'s' * (expected > 1)} before `in`",
            )
        names = self.targets if len(self.targets) == expected else tuple(f"{self.targets[0]}_{k}" for k in range(expected))
        match self.range:
            case ParallelRange():
                yield from self._parallel(self.range, names)
            case SerialRange():
                yield from self._serial(self.range, names)
            case PersistentRange():
                yield from self._persistent(self.range, names)
            case BindingLoop():
                yield from self.range.run(self.builder, names[0])

    def _parallel(self, loop: ParallelRange, names: tuple[str, ...]) -> Iterator[Any]:
        builder = self.builder
        outer = next((f for f in reversed(builder.frames) if f.kind is FrameKind.PARALLEL), None)
        if outer is not None and builder.frames[-1] is not outer:
            fail(
                Kind.LOOP_NESTING,
                "a T.Parallel loop stands inside another one, with something between them",
                (Label(self.span), Label(outer.span, "the outer loop")),
                because="parallel loops nest only directly, as one box of iterations",
                help="write one T.Parallel with all extents",
            )
        variables = tuple(var(name) for name in names)
        with builder.frame(FrameKind.PARALLEL, self.span, variables), builder.block() as body:
            yield variables[0] if self.width == 0 and len(variables) == 1 else variables
        nested = body[0] if len(body) == 1 and isinstance(body[0], ParallelFor) else None
        inner = next((s for s in body if isinstance(s, ParallelFor)), None)
        if inner is not None and not all(isinstance(s, Let) or s is inner for s in body):
            fail(
                Kind.LOOP_NESTING,
                "a T.Parallel loop stands inside another one, beside other statements",
                (Label(inner.span), Label(self.span, "the outer loop")),
                because="parallel loops nest only directly, as one box of iterations",
                help="write one T.Parallel with all extents, or two loops one after the other",
            )
        if nested is not None:
            builder.emit(ParallelFor(self.span, variables + nested.variables, loop.extents + nested.extents, nested.body))
        elif body:
            builder.emit(ParallelFor(self.span, variables, loop.extents, Seq(self.span, tuple(body))))

    def _serial(self, loop: SerialRange, names: tuple[str, ...]) -> Iterator[Any]:
        builder = self.builder
        if loop.kind is LoopKind.PIPELINED and builder.is_inside(FrameKind.PARALLEL):
            outer = next(f for f in builder.frames if f.kind is FrameKind.PARALLEL)
            fail(
                Kind.LOOP_NESTING,
                "T.Pipelined stands inside T.Parallel",
                (Label(self.span), Label(outer.span, "the parallel loop")),
                because="a pipeline moves whole tiles; one iteration of T.Parallel belongs to one thread",
                help="exchange the loops, or use T.serial inside",
            )
        variables = tuple(var(name, extent.dtype) for name, extent in zip(names, loop.extents, strict=True))
        with builder.frame(FrameKind.LOOP, self.span, variables), builder.block() as body:
            values = tuple(loop.value(k, v) for k, v in enumerate(variables))
            yield values if loop.is_tuple else values[0]
        if loop.pipeline is not None:
            check_pipeline(loop.pipeline, body, self.span)
        made: Stmt = Seq(self.span, tuple(body))
        for variable, extent in reversed(list(zip(variables, loop.extents, strict=True))):
            made = For(self.span, variable, extent, loop.kind, made, loop.pipeline)
        if body:
            builder.emit(made)

    def _persistent(self, loop: PersistentRange, names: tuple[str, ...]) -> Iterator[Any]:
        builder = self.builder
        total = builder.snapshot(loop.total(), "total")
        wave = var("wave")
        with builder.frame(FrameKind.LOOP, self.span, (wave,)), builder.block() as body:
            flat = wave * loop.wave_size + loop.index
            coordinates = tuple(builder.let(name, c) for name, c in zip(names, loop.coordinates(flat), strict=True))
            with builder.frame(FrameKind.BRANCH, self.span), builder.block() as inner:
                yield coordinates
        guarded = If(self.span, flat < total, Seq(self.span, tuple(inner)))
        builder.emit(For(self.span, wave, ceildiv(total, loop.wave_size), LoopKind.SERIAL, Seq(self.span, (*body, guarded))))


class WhileState(_LoopScope):
    """`while`: condition and body are traced once."""

    def __init__(
        self, builder: ProgramBuilder, names: tuple[str, ...], readers: tuple[Reader, ...], places: tuple[Place, ...], containers: tuple[Reader, ...]
    ) -> None:
        super().__init__(builder, names, readers, places, containers)
        self.test: Expr | None = None
        self.body: list[Stmt] = []
        self.prefix_count = 0  # statements at the beginning of the body that compute the condition

    def condition(self, value: Any) -> None:
        self.prefix_count = len(self.body)
        test = as_condition(value) if isinstance(value, (Expr, Buffer, Region)) else const(bool(value))
        here = self.builder.here()
        if test.is_const and test.value:
            fail(
                Kind.WHILE_CONSTANT,
                "the condition of `while` is constant and true: the loop would never end",
                here,
                because="it does not depend on anything that the kernel changes",
                help="test a T.alloc_var that the body updates",
            )
        if test.is_const:
            warnings.warn(f"{here}: the condition of `while` is always false: the loop never runs", stacklevel=3)
        self.test = test

    def __iter__(self) -> Iterator[None]:
        with self.builder.frame(FrameKind.WHILE, self.span), self.builder.block() as self.body:
            yield None
        if self.test is None or (self.test.is_const and not self.test.value):
            return
        prefix, rest = self.body[: self.prefix_count], self.body[self.prefix_count :]
        if prefix:
            leave = If(self.span, unary(Op.NOT, self.test), Seq(self.span, (Break(self.span),)))
            self.builder.emit(While(self.span, const(True), Seq(self.span, (*prefix, leave, *rest))))
            return
        if not can_end(self.test, self.body):
            fail(
                Kind.WHILE_CONSTANT,
                "nothing in this loop changes its condition: once begun, it would never end",
                self.span,
                because="the condition depends only on values that the body leaves as they are, and there is no `break`",
                help="update a T.alloc_var that the condition tests",
            )
        self.builder.emit(While(self.span, self.test, Seq(self.span, tuple(rest))))


# What a rewritten statement does on Python objects: an exception that one of these lets pass belongs to the user's line.
STAND_INS: frozenset[CodeType] = frozenset(
    f.__code__
    for f in (
        Tracer.assert_that,
        Tracer.condition,
        Tracer.negate,
        Tracer.ternary,
        Tracer._chain,
        Tracer.all_of,
        Tracer.any_of,
        Tracer.equal,
        Tracer.not_equal,
        Tracer.augment,
        Tracer.augment_item,
        Tracer.unpack,
        WhileState.condition,
        *_OPERATORS.values(),
    )
)
