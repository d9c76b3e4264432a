"""Binds a caller's arguments for a run in numpy: symbols from shapes and strides, scalars, pointers, copies of all arrays (floor 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilewright.arith.evaluate import evaluate
from tilewright.dtypes import SCALAR_DTYPES, DType
from tilewright.errors import CompilerBug, Kind, Label, Span, error_of, fail
from tilewright.execution.memory import Array, Storage, pack_nibbles, strided, unpack_nibbles
from tilewright.ir.buffer import Buffer, Extent, format_shape
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Parameter, ParameterKind, Program
from tilewright.ir.visit import subexpressions


@dataclass(frozen=True, eq=False)
class _Equation:
    """`expression` must equal `value`; it comes from `what` of the parameter at `span`. A loose one only gives a value to a symbol without."""

    expression: Extent
    value: int
    what: str
    span: Span
    kind: Kind
    is_loose: bool = False


@dataclass
class _Range:
    """The caller's memory from `address` on, and our copy of it."""

    given: Array  # kept alive, so that no other array can have its address
    size_bytes: int
    storage: Storage

    @property
    def address(self) -> int:
        return int(self.given.ctypes.data)


@dataclass
class BoundArguments:
    """What a call gives to a program.

    values     variables (symbols, scalars, pointers) to numpy scalars.
    storages   root buffers of tensor arguments to copies of the caller's elements.
    given      numpy dtypes of the tensors whose elements came in another form: bytes, or 4-bit elements two per byte.
    """

    values: dict[Expr, Any] = field(default_factory=dict)
    storages: dict[Buffer, Storage] = field(default_factory=dict)
    given: dict[str, np.dtype[Any]] = field(default_factory=dict)
    _ranges: list[_Range] = field(default_factory=list)

    def pointee(self, address: int, buffer: Buffer) -> tuple[Storage, int]:
        """The copy that holds `address` and the offset in it, in bytes.

        Raises TileError for an address outside every array of the call.
        """
        for known in self._ranges:
            if known.address <= address < known.address + max(known.size_bytes, 1):
                return known.storage, address - known.address
        raise error_of(
            Kind.ARGUMENT_KIND,
            f"{buffer.name} lies at address {address:#x}, which is in no array of this call",
            buffer.span,
            because="the program runs on copies of the arrays that it is given",
            help="pass the array itself, or list it in `pointees`",
        )

    def copy(self, array: Array, dtype: DType) -> Storage:
        """Our copy of the caller's array; the same memory given twice is copied once."""
        address, size_bytes = array.ctypes.data, _span_elements(array) * array.itemsize
        for known in self._ranges:
            if known.address == address and known.size_bytes == size_bytes and size_bytes:
                return known.storage
        flat = np.zeros(_span_elements(array), array.dtype)
        if array.size:
            strided(flat, array.shape, array.strides)[...] = array
        storage = Storage(dtype, flat if flat.dtype == dtype.numpy else flat.view(dtype.numpy))
        self._ranges.append(_Range(array, size_bytes, storage))
        return storage


def bind_arguments(program: Program, arguments: Mapping[str, Any], pointees: Sequence[Array] = ()) -> BoundArguments:
    """The arguments of one call, by parameter name; outputs and `None` for tensors may be left out.

    Raises TileError where a name is unknown or missing, a dtype, rank, shape or scalar does not fit, or a symbol has no value.
    """
    known = {p.name for p in program.parameters}
    for name in arguments:
        if name not in known:
            fail(Kind.UNKNOWN_ARGUMENT, f"{program.name} has no parameter {name}", program.span, because=f"its parameters are {', '.join(sorted(known))}")
    bound = BoundArguments()
    for array in pointees:
        bound.copy(array, _dtype_of(array))
    equations: list[_Equation] = []
    tensors: list[tuple[Parameter, Array]] = []
    for parameter in program.parameters:
        value = arguments.get(parameter.name)
        if value is None:
            if parameter.kind is not ParameterKind.TENSOR or (parameter.name not in arguments and not parameter.is_output):
                fail(
                    Kind.MISSING_ARGUMENT,
                    f"{program.name} needs a value for {parameter.name}",
                    parameter.span,
                    because=f"{parameter.name} is a {parameter.kind.value} parameter",
                    help=f"pass {parameter.name}=...",
                )
        elif parameter.kind is ParameterKind.TENSOR:
            tensors.append((parameter, _elements(parameter, np.asarray(value), bound)))
            equations += _equations(parameter, tensors[-1][1])
        elif parameter.kind is ParameterKind.SCALAR:
            bound.values[_variable(parameter)] = _scalar(parameter, value)
        else:
            bound.values[_variable(parameter)] = _address(value, bound)
    solve_symbols(equations, bound.values)
    for parameter, array in tensors:
        buffer = _buffer(parameter)
        bound.storages[buffer] = bound.copy(np.ascontiguousarray(array) if buffer.given_strides is None else array, buffer.dtype)
    return bound


def solve_symbols(equations: Sequence[_Equation], values: dict[Expr, Any]) -> None:
    """Extends `values` by the symbols that the equations determine, one linear unknown at a time, and verifies all of them.

    Raises TileError (ARGUMENT_SHAPE, ARGUMENT_STRIDES or ARGUMENT_SYMBOL) where an equation does not hold.
    """
    for is_loose in (False, True):
        waiting = [e for e in equations if isinstance(e.expression, Expr) and e.is_loose == is_loose]
        is_progressing = True
        while is_progressing:
            is_progressing = False
            for equation in list(waiting):
                unknown = [v for v in free_variables(equation.expression) if v not in values]
                if len(unknown) == 1 and _solve_linear(equation, unknown[0], values):
                    waiting.remove(equation)
                    is_progressing = True
    for equation in equations:
        if equation.is_loose:
            continue
        unknown = [v for v in free_variables(equation.expression) if v not in values]
        if len(unknown) == 1:
            fail(
                equation.kind,
                f"{equation.what} is {equation.value}, but no {unknown[0].name} makes `{equation.expression}` that",
                equation.span,
                because="a symbol is solved from a dimension that is linear in it",
                help="pass an array of the declared shape",
            )
        expected = integer(equation.expression, values)
        if expected != equation.value:
            symbols = ", ".join(f"{v.name} = {int(values[v])}" for v in free_variables(equation.expression))
            wanted = f"{equation.expression} = {expected} ({symbols})" if symbols else str(expected)
            fail(
                equation.kind,
                f"{equation.what} is {equation.value}, but the kernel expects {wanted}",
                equation.span,
                because="all arguments of a call must agree on the values of the symbols",
                help="pass an array of the declared shape",
            )


def _solve_linear(equation: _Equation, unknown: Expr, values: dict[Expr, Any]) -> bool:
    def value(x: int) -> Any:
        return np.asarray(x).astype(unknown.dtype.numpy)[()]

    def at(x: int) -> int:
        return integer(equation.expression, {**values, unknown: value(x)})

    start, slope = at(0), at(1) - at(0)
    if slope == 0 or (equation.value - start) % slope:
        return False
    solution = (equation.value - start) // slope
    if at(solution) != equation.value:
        return False
    values[unknown] = value(solution)
    return True


def free_variables(expression: Extent) -> list[Expr]:
    """The variables of an expression, in a fixed order."""
    return [] if isinstance(expression, int) else [e for e in subexpressions(expression) if e.op is Op.VAR]


def integer(expression: Extent, values: Mapping[Expr, Any]) -> int:
    """An extent's value. Raises TileError where a symbol has none."""
    if isinstance(expression, int):
        return expression
    require_bound(expression, values)
    return int(evaluate(expression, values, _refuse_load))


def require_bound(expression: Expr, values: Mapping[Expr, Any]) -> None:
    """Raises TileError where a symbol of the expression has no value."""
    for variable in free_variables(expression):
        if variable not in values:
            fail(
                Kind.UNBOUND_SYMBOL,
                f"the symbol {variable.name} in `{expression}` has no value in this call",
                because="a symbol is bound from the shape or the strides of an array argument, or from a scalar parameter",
                help=f"use {variable.name} as a dimension of an input, or pass it as a scalar",
            )


def result_array(parameter: Parameter, array: Array, bound: BoundArguments) -> Array:
    """A tensor's elements after the run in the form in which the caller gave them, as a copy."""
    given = bound.given.get(parameter.name)
    if given is None:
        return np.array(array)
    dtype = _buffer(parameter).dtype
    return pack_nibbles(array).view(given) if dtype.is_packed else array.astype(given) if dtype.is_bool else np.array(array).view(given)


def _equations(parameter: Parameter, array: Array) -> list[_Equation]:
    buffer = _buffer(parameter)
    found = []
    for axis, (extent, size) in enumerate(zip(buffer.shape, array.shape, strict=False)):
        kind = Kind.ARGUMENT_SYMBOL if isinstance(extent, Expr) else Kind.ARGUMENT_SHAPE
        found.append(_Equation(extent, size, f"dimension {axis} of {parameter.name}", parameter.span, kind))
    for axis, (stride, step) in enumerate(zip(buffer.given_strides or (), array.strides, strict=False)):
        what, elements = f"stride {axis} of {parameter.name}, in elements,", step // array.itemsize // buffer.dtype.lanes
        found.append(_Equation(stride, elements, what, parameter.span, Kind.ARGUMENT_STRIDES, is_loose=array.shape[axis] <= 1))
    return found


def _elements(parameter: Parameter, array: Array, bound: BoundArguments) -> Array:
    """The caller's array with one numpy element per element of the parameter's dtype."""
    buffer = _buffer(parameter)
    dtype = buffer.dtype
    rank = buffer.rank + (dtype.lanes > 1)
    labels = (Label(parameter.span, f"{parameter.name}: {format_shape(buffer)}"),)
    if array.ndim != rank:
        fail(
            Kind.ARGUMENT_RANK,
            f"{parameter.name} has {array.ndim} dimensions, the kernel expects {rank}",
            labels,
            because="a tensor's rank is fixed by its declaration",
        )
    if array.dtype == dtype.numpy:
        return array
    if dtype.is_packed and array.dtype.itemsize == 1 and array.dtype.kind in "iu":
        bound.given[parameter.name] = array.dtype
        elements = unpack_nibbles(np.ascontiguousarray(array), dtype)
        last = buffer.shape[-1]
        return elements[..., :last] if isinstance(last, int) and last == elements.shape[-1] - 1 else elements
    if array.dtype.itemsize == 1 == dtype.numpy.itemsize and not dtype.is_packed and (dtype.is_bool or dtype.is_float):
        bound.given[parameter.name] = array.dtype
        return array != 0 if dtype.is_bool else array.view(dtype.numpy)
    fail(
        Kind.ARGUMENT_DTYPE,
        f"{parameter.name} is {array.dtype}, the kernel expects {dtype!s}",
        labels,
        because="arguments are never converted",
        help=f"convert the array with .astype({dtype.numpy})",
    )


def _scalar(parameter: Parameter, value: Any) -> Any:
    dtype = _variable(parameter).dtype
    value = value.item() if isinstance(value, (np.generic, np.ndarray)) and np.ndim(value) == 0 else value
    is_fitting = isinstance(value, (bool, int, float) if dtype.is_float else (bool, int))
    if is_fitting and dtype.is_integer:
        is_fitting = dtype.minimum <= value <= dtype.maximum
    if not is_fitting:
        fail(
            Kind.ARGUMENT_SCALAR,
            f"{parameter.name} is {value!r}, the kernel expects a value of {dtype!s}",
            parameter.span,
            because="scalars are passed as Python numbers in the range of their dtype",
        )
    return np.asarray(value).astype(dtype.numpy)[()]


def _address(value: Any, bound: BoundArguments) -> Any:
    if isinstance(value, (int, np.integer)):
        return np.uint64(value)
    array = np.asarray(value)
    bound.copy(array, _dtype_of(array))
    return np.uint64(array.ctypes.data)


def _dtype_of(array: Array) -> DType:
    return next(d for d in SCALAR_DTYPES if d.numpy == array.dtype)


def _span_elements(array: Array) -> int:
    if not array.size:
        return 0
    item = int(array.itemsize)
    return 1 + sum((int(n) - 1) * (int(s) // item) for n, s in zip(array.shape, array.strides, strict=True))


def _buffer(parameter: Parameter) -> Buffer:
    assert parameter.buffer is not None
    return parameter.buffer


def _variable(parameter: Parameter) -> Expr:
    assert parameter.variable is not None
    return parameter.variable


def _refuse_load(buffer: Buffer, indices: tuple[Array, ...], mask: Array) -> Array:
    raise CompilerBug(f"an extent reads {buffer.name}")
