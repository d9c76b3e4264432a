"""Allocations of the language (floor 5; language.md 5.2)."""

from __future__ import annotations

from typing import Any

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, as_expr, cast, const, describe_operand, parse_dtype
from tilewright.ir.stmt import ReduceKind, Store
from tilewright.ir.visit import subexpressions
from tilewright.language.builder import program_builder
from tilewright.language.tensor import parse_shape
from tilewright.spans import span_of_caller

_SCOPE_NAMES = {
    Scope.SHARED: ("shared.dyn", "shared"),
    Scope.FRAGMENT: ("local.fragment",),
    Scope.LOCAL: ("local",),
    Scope.VARIABLE: ("local.var",),
    Scope.GLOBAL: ("global",),
}


def _check_scope(what: str, scope: Scope, given: Any, span: Span) -> None:
    """The scope string of older programs says again what the function's name says."""
    known = _SCOPE_NAMES[scope]
    if not isinstance(given, str) or given not in known:
        fail(
            Kind.SCOPE,
            f"the scope of {what} is {describe_operand(given)}",
            span,
            because=f"{what} allocates in the scope {' or '.join(repr(n) for n in known)}",
            help="leave it out; T.alloc_shared, T.alloc_fragment and T.alloc_local allocate in the other scopes",
        )


def _allocate(what: str, shape: Any, dtype: Any, scope: Scope) -> Buffer:
    builder = program_builder()
    span = builder.here()
    sizes = parse_shape(shape, what, span)
    kind = parse_dtype(dtype, span)
    if kind == dtypes.handle:
        fail(
            Kind.DTYPE_UNSUPPORTED,
            f"{what} of handle",
            span,
            because="an address is a parameter of the kernel; tiles hold numbers",
            help='keep addresses as "int64", and give them to T.make_tensor',
        )
    if not sizes:
        fail(
            Kind.SHAPE_VALUE,
            f"{what} was given a shape without dimensions",
            span,
            because="a tile has at least one dimension",
            help="use T.alloc_var for one value",
        )
    for axis, n in enumerate(sizes):
        if isinstance(n, Expr):
            symbols = [e.name for e in subexpressions(n) if e.op is Op.VAR]
            fail(
                Kind.SHAPE_STATIC,
                f"dimension {axis} of {what} is `{n}`, and {', '.join(symbols) or 'it'} is known only at run time",
                span,
                because="a tile lives in memory whose size is fixed at compile time; only global tensors have symbolic (dynamic) shapes",
                help="allocate a tile of constant size and loop over the tensor; T.copy clips at the edge",
            )
        if n == 0:
            fail(
                Kind.SHAPE_VALUE,
                f"dimension {axis} of {what} is 0",
                span,
                because="a tile has at least one element",
                help="check the sizes that were passed in",
            )
    buffer = Buffer(f"<{what}>", kind, sizes, scope, span)
    return builder.add_buffer(buffer)


def alloc_shared(shape: Any, dtype: Any, scope: str = "shared.dyn") -> Buffer:
    """A tile that the whole block sees."""
    buffer = _allocate("T.alloc_shared", shape, dtype, Scope.SHARED)
    _check_scope("T.alloc_shared", Scope.SHARED, scope, buffer.span)
    return buffer


def alloc_fragment(shape: Any, dtype: Any, scope: str = "local.fragment") -> Buffer:
    """A tile spread over the registers of the block; the compiler chooses which thread holds which element."""
    buffer = _allocate("T.alloc_fragment", shape, dtype, Scope.FRAGMENT)
    _check_scope("T.alloc_fragment", Scope.FRAGMENT, scope, buffer.span)
    return buffer


def alloc_local(shape: Any, dtype: Any, scope: str = "local") -> Buffer:
    """An array of which every thread has its own copy."""
    buffer = _allocate("T.alloc_local", shape, dtype, Scope.LOCAL)
    _check_scope("T.alloc_local", Scope.LOCAL, scope, buffer.span)
    return buffer


def alloc_var(dtype: Any, *args: Any, init: Any = None, scope: str = "local.var") -> Buffer:
    """A mutable scalar: zero, or `init`. Also `alloc_var(dtype, "scope")` and `alloc_var(dtype, init, scope)`.

    Raises TileError (value-range) where the dtype cannot hold a constant `init`.
    """
    for argument in args:
        if isinstance(argument, str):
            scope = argument
        else:
            init = argument
    builder = program_builder()
    buffer = _allocate("T.alloc_var", (1,), dtype, Scope.VARIABLE)
    _check_scope("T.alloc_var", Scope.VARIABLE, scope, buffer.span)
    value = 0 if init is None else init
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        check_range(value, buffer.dtype, buffer.span, "the initial value")
    builder.emit(Store(buffer.span, buffer, (const(0),), cast(as_expr(value), buffer.dtype)))
    return buffer


def check_range(value: int | float, dtype: DType, span: Span, what: str) -> None:
    """A diagnostic where a Python number lies outside a dtype's range."""
    is_special = isinstance(value, float) and (value != value or value in (float("inf"), float("-inf")))
    if is_special and dtype.is_float and (dtype.has_infinity or value != value):
        return
    if not dtype.is_bool and (is_special or not dtype.minimum <= value <= dtype.maximum):
        fail(
            Kind.VALUE_RANGE,
            f"{what} {value!r} does not fit {dtype!s}",
            span,
            because=f"{dtype!s} holds values from {dtype.minimum} to {dtype.maximum}",
            help="use a wider dtype, or a value in the range",
        )


def alloc_global(shape: Any, dtype: Any, scope: str = "global") -> Buffer:
    """A workspace in global memory that lives for one call of the kernel, shared by its launches."""
    builder = program_builder()
    span = builder.here()
    if builder.launch is not None:
        fail(
            Kind.SCOPE,
            "T.alloc_global stands inside a launch",
            (Label(span), Label(builder.launch.span, "the launch")),
            because="a workspace belongs to the whole function, so that several launches can share it",
            help="move it above `with T.Kernel(...)`",
        )
    _check_scope("T.alloc_global", Scope.GLOBAL, scope, span)
    buffer = Buffer("<T.alloc_global>", parse_dtype(dtype, span), parse_shape(shape, "T.alloc_global", span), Scope.GLOBAL, span)
    builder.workspaces.append(buffer)
    return buffer


def alloc_reducer(shape: Any, dtype: Any, op: str = "sum", replication: str | None = None) -> Buffer:
    """The accumulator of a deferred reduction: sum, max, min, bitand, bitor or bitxor. `replication` is a hint of an older API."""
    known = {k.value: k for k in ReduceKind}
    if not isinstance(op, str) or op not in known:
        fail(
            Kind.REDUCE_OPERATION,
            f"there is no reducer operation {op!r}",
            span_of_caller(),
            because=f"known are {', '.join(known)}",
            help='write T.alloc_reducer(shape, dtype, "sum")',
        )
    if op.startswith("bit") and parse_dtype(dtype).is_float:
        fail(
            Kind.REDUCE_DTYPE,
            f"a bitwise reducer ({op}) of {parse_dtype(dtype)!s}",
            span_of_caller(),
            because="bits are combined on integers and bools",
            help='give an integer dtype, or the operation "sum", "max" or "min"',
        )
    buffer = _allocate("T.alloc_reducer", shape, dtype, Scope.REDUCER)
    program_builder().reducers[buffer] = known[op]
    return buffer


def alloc_barrier(arrive_count: Any) -> Buffer:
    """Mbarriers are constructs of the hardware."""
    fail(
        Kind.THREAD_LEVEL,
        "T.alloc_barrier makes barriers in memory, which this version does not run",
        span_of_caller(),
        because="the threads of a block meet at T.sync_threads; barriers that count arrivals and bytes are hardware of some GPUs",
        help="use T.Pipelined: the compiler places the barriers",
    )
