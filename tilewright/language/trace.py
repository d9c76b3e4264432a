"""What rewritten code calls while it runs: names, branches, loops and operators of a kernel being traced (floor 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.buffer import Buffer, Reference, Region, Scope, format_shape
from tilewright.ir.expr import Expr, Op, as_condition, describe_operand, logical, select, unary
from tilewright.ir.stmt import Break, Continue, ReduceLoop
from tilewright.language.blocks import BranchState, LoopState, WhileState
from tilewright.language.builder import FrameKind, ProgramBuilder, is_named, name_buffer, program_builder
from tilewright.language.loops import LoopRange, range_loop
from tilewright.language.names import Carried, Place, Poison, PoisonReason, Reader, Unbound, peek, variable_help
from tilewright.spans import span_of_caller

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
            help=variable_help(name),
        )

    def bind(self, name: str, value: Any, reader: Reader) -> Any:
        """`name = value`."""
        old = peek(reader)
        if isinstance(old, Buffer) and old.scope is Scope.VARIABLE and not _is_buffer(value):
            self.builder.store(old, 0, value)
            return old
        if isinstance(old, Reference) and not _is_buffer(value):
            self.builder.store_region(old.target, value)
            return old
        if isinstance(value, Reference) and value.is_element:
            value = value.as_expression()
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
        if made is Unbound.UNBOUND:
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
        if isinstance(current, Region) and not (isinstance(current, Reference) and current.is_element):
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
        if isinstance(current, Reference):
            self.builder.store_region(current.target, combined)
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
    if isinstance(value, Region):
        return not (isinstance(value, Reference) and value.is_element)
    return isinstance(value, Buffer) and (value.scope is not Scope.VARIABLE or not is_named(value))


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
