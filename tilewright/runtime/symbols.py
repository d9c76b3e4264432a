"""What the symbols of a program are in one call: solved from the shapes and strides of its tensors and from its scalars (floor 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from tilewright.arith.evaluate import evaluate
from tilewright.errors import CompilerBug, Kind
from tilewright.ir.buffer import Buffer, Extent
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Parameter
from tilewright.ir.visit import subexpressions
from tilewright.runtime.argument_text import joined, refuse


@dataclass(frozen=True, slots=True, eq=False)
class Equation:
    """`expression`, a dimension or a stride of `parameter`, must equal `value`.

    is_loose   the value never counts (the stride along an axis of one element): it binds a symbol that has no other source, and is not verified.
    """

    expression: Extent
    value: int
    parameter: Parameter
    axis: int
    is_stride: bool = False
    is_loose: bool = False

    @property
    def what(self) -> str:
        return f"{self.noun} {self.axis} of {self.parameter.name}"

    @property
    def noun(self) -> str:
        return "stride" if self.is_stride else "dimension"

    @property
    def unit(self) -> str:
        return " elements" if self.is_stride else ""

    @property
    def kind(self) -> Kind:
        return Kind.ARGUMENT_STRIDES if self.is_stride else Kind.ARGUMENT_SHAPE


Source = Equation | Parameter  # where a symbol's value came from: an equation, or a scalar parameter


@dataclass(frozen=True, slots=True)
class SolvedSymbols:
    """Values of all variables of the equations, and their sources."""

    values: dict[Expr, int]
    sources: dict[Expr, Source]


def solve_symbols(equations: Sequence[Equation], scalars: Mapping[Expr, int], parameters: Mapping[Expr, Parameter], name: str) -> SolvedSymbols:
    """The symbols that make all equations true. Bare symbols bind first, then what is linear in one unknown; everything is verified.

    scalars     values of the scalar parameters; `parameters` says which parameter each variable is, `name` is the kernel's.
    Raises TileError: ARGUMENT_SYMBOL where two arguments disagree or a value leaves the symbol's dtype, ARGUMENT_SHAPE and ARGUMENT_STRIDES where
    a dimension or stride is not what it must be, UNBOUND_SYMBOL where an equation leaves a symbol open.
    """
    solved = SolvedSymbols(dict(scalars), {variable: parameters[variable] for variable in scalars})
    strict = [e for e in equations if not e.is_loose]
    loose = [e for e in equations if e.is_loose]
    for wave in (strict, [*strict, *loose]):
        for equation in wave:
            if isinstance(equation.expression, Expr) and equation.expression.op is Op.VAR and equation.expression not in solved.values:
                _bind(equation.expression, equation.value, equation, solved)
        _propagate(wave, solved)
    for equation in strict:
        _verify(equation, solved, name)
    return solved


def _propagate(equations: Sequence[Equation], solved: SolvedSymbols) -> None:
    waiting = [e for e in equations if isinstance(e.expression, Expr) and e.expression.op is not Op.VAR]
    is_progressing = True
    while is_progressing:
        is_progressing = False
        for equation in list(waiting):
            unknown = [v for v in free_variables(equation.expression) if v not in solved.values]
            if len(unknown) > 1:
                continue
            waiting.remove(equation)
            line = _linear(equation.expression, unknown[0], solved.values) if unknown else None
            if line is not None and line[0] and (equation.value - line[1]) % line[0] == 0:
                solution = (equation.value - line[1]) // line[0]
                if solution >= 0:
                    _bind(unknown[0], solution, equation, solved)
                    is_progressing = True


def _bind(symbol: Expr, value: int, equation: Equation, solved: SolvedSymbols) -> None:
    value = max(value, 0) if equation.is_loose else value
    if value > symbol.dtype.maximum:
        found = f"{symbol.name} would be {value}, as {equation.what} is {equation.value}"
        refuse(
            Kind.ARGUMENT_SYMBOL,
            f"{found}, but {symbol.dtype!s} ends at {symbol.dtype.maximum}",
            equation.parameter,
            because="inside the kernel a symbol is a number of its own dtype",
            help=f"declare it as T.dynamic({symbol.name!r}, 'int64')",
        )
    solved.values[symbol], solved.sources[symbol] = value, equation


def _linear(expression: Extent, unknown: Expr, values: Mapping[Expr, int]) -> tuple[int, int] | None:
    """(slope, offset) where the expression is slope * unknown + offset."""
    if isinstance(expression, int):
        return 0, expression
    if expression is unknown:
        return 1, 0
    if all(v is not unknown for v in free_variables(expression)):
        return 0, integer_value(expression, values)
    parts = [_linear(a, unknown, values) for a in expression.args]
    lines = [p for p in parts if p is not None]
    if len(lines) < len(parts):
        return None
    match expression.op, lines:
        case Op.ADD, [(s, a), (t, b)]:
            return s + t, a + b
        case Op.SUB, [(s, a), (t, b)]:
            return s - t, a - b
        case Op.MUL, [(s, a), (0, b)] | [(0, b), (s, a)]:
            return s * b, a * b
        case Op.SHIFT_LEFT, [(s, a), (0, b)] if b >= 0:
            return s << b, a << b
        case Op.NEG, [(s, a)]:
            return -s, -a
        case Op.CAST, [line] if expression.dtype.is_integer:
            return line
    return None


def _verify(equation: Equation, solved: SolvedSymbols, name: str) -> None:
    expression, value = equation.expression, equation.value
    if isinstance(expression, int):
        if expression != value:
            noun = "stride" if equation.is_stride else "size"
            refuse(
                equation.kind,
                f"{equation.what} is {value}{equation.unit}, but {name} expects {expression}",
                equation.parameter,
                because=f"{name} was compiled for exactly this {noun}",
                help=f"pass a tensor with this {noun}, or declare it with T.dynamic",
            )
        return
    if any(v not in solved.values for v in free_variables(expression)):
        _fail_unsolved(equation, expression, solved)
    expected = integer_value(expression, solved.values)
    if expected == value:
        return
    if expression.op is Op.VAR:
        _fail_conflict(equation, expression, solved, name)
    facts = ", ".join(f"{v.name} is {solved.values[v]} {_place(solved.sources[v])}" for v in free_variables(expression))
    refuse(
        Kind.ARGUMENT_SYMBOL,
        f"{equation.what} is {value}{equation.unit}, but {expression} is {expected}: {facts}",
        equation.parameter,
        *(_parameter(solved.sources[v]) for v in free_variables(expression)),
        because=f"one symbol has one value in a call of {name}",
        help=f"pass a tensor for {equation.parameter.name} whose {equation.noun} {equation.axis} is {expected}, or other arguments",
    )


def _fail_conflict(equation: Equation, symbol: Expr, solved: SolvedSymbols, name: str) -> NoReturn:
    source = solved.sources[symbol]
    first, second = _place(source), _place(equation)
    if first == second and isinstance(source, Equation):
        first, second = f"in {source.what}", f"in {equation.what}"
    refuse(
        Kind.ARGUMENT_SYMBOL,
        f"{symbol.name} is {solved.values[symbol]} {first} but {equation.value} {second}",
        _parameter(source),
        equation.parameter,
        because=f"one symbol has one value in a call of {name}",
        help=f"pass arguments that agree on {symbol.name}, or declare two symbols",
    )


def _fail_unsolved(equation: Equation, expression: Expr, solved: SolvedSymbols) -> NoReturn:
    unknown = [v for v in free_variables(expression) if v not in solved.values]
    line = _linear(expression, unknown[0], solved.values) if len(unknown) == 1 else None
    if line is not None and line[0]:
        refuse(
            equation.kind,
            f"{equation.what} is {equation.value}{equation.unit}, but no {unknown[0].name} makes {expression} that",
            equation.parameter,
            because="symbols are whole numbers from 0 on",
            help="pass a tensor of the declared shape",
        )
    refuse(
        Kind.UNBOUND_SYMBOL,
        f"no argument of this call says what {joined([v.name for v in unknown])} is",
        equation.parameter,
        because=f"{expression} = {equation.value} does not determine it: a symbol is solved from a dimension or stride that is linear in it alone",
        help=f"use {unknown[0].name} itself as a dimension of an input, or pass it as a scalar",
    )


def _place(source: Source) -> str:
    if isinstance(source, Parameter):
        return "as an argument"
    return f"in {source.what if source.is_stride else source.parameter.name}"


def _parameter(source: Source) -> Parameter:
    return source if isinstance(source, Parameter) else source.parameter


def free_variables(expression: Extent) -> Iterator[Expr]:
    """The variables of an expression, each once, in a fixed order."""
    return iter(()) if isinstance(expression, int) else (e for e in subexpressions(expression) if e.op is Op.VAR)


def integer_value(expression: Extent, values: Mapping[Expr, Any]) -> int:
    """An extent in exact arithmetic: kernels compute with symbols in 64 bits, so nothing wraps at the symbol's own dtype."""
    if isinstance(expression, int):
        return expression
    match expression.op:
        case Op.CONST:
            return int(expression.value)
        case Op.VAR:
            return int(values[expression])
        case Op.ADD:
            return integer_value(expression.args[0], values) + integer_value(expression.args[1], values)
        case Op.SUB:
            return integer_value(expression.args[0], values) - integer_value(expression.args[1], values)
        case Op.MUL:
            return integer_value(expression.args[0], values) * integer_value(expression.args[1], values)
        case Op.FLOORDIV | Op.FLOORMOD:
            left, right = integer_value(expression.args[0], values), integer_value(expression.args[1], values)
            if right:
                return left // right if expression.op is Op.FLOORDIV else left % right
        case Op.MIN:
            return min(integer_value(a, values) for a in expression.args)
        case Op.MAX:
            return max(integer_value(a, values) for a in expression.args)
        case Op.CAST if expression.dtype.is_integer and expression.dtype.bits >= 32 and expression.args[0].dtype.is_integer:
            return integer_value(expression.args[0], values)
    return int(evaluate(expression, values, refuse_load))


def refuse_load(buffer: Buffer, indices: tuple[Any, ...], mask: Any) -> Any:
    """The loader for expressions that the host computes before a launch: they hold no loads."""
    raise CompilerBug(f"a host expression reads {buffer.name}")
