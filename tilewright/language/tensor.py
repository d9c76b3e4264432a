"""Tensors of the language (floor 5): annotations of parameters, outputs, symbols, and tensors made over a pointer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import Kind, Span, fail
from tilewright.ir import build
from tilewright.ir.buffer import Buffer, Extent, Scope
from tilewright.ir.expr import Expr, Op, as_expr, as_integer, binary, cast, describe_operand, parse_dtype, var
from tilewright.ir.expr import const as constant
from tilewright.spans import span_of_caller


def parse_shape(shape: Any, what: str, span: Span) -> tuple[Extent, ...]:
    """A shape as ints and integer expressions."""
    items = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    return tuple(_extent(n, what, span) for n in items)


def _extent(value: Any, what: str, span: Span) -> Extent:
    is_tile = isinstance(value, Buffer) and value.scope is not Scope.VARIABLE
    number = as_integer(value)
    if is_tile or isinstance(value, bool) or not (isinstance(value, Expr) or hasattr(value, "as_expression") or number is not None):
        fail(
            Kind.SHAPE_VALUE,
            f"the shape of {what} holds {describe_operand(value)}",
            span,
            because="a dimension is a whole number or a symbol of T.dynamic",
            help=f"write {value.name}.shape[0]" if is_tile else "use an int, or T.dynamic for a size known only at run time",
        )
    if number is None:
        expression = as_expr(value)
        if not expression.dtype.is_integer:
            fail(
                Kind.SHAPE_VALUE,
                f"the shape of {what} holds `{expression}`, which is {expression.dtype!s}",
                span,
                because="a dimension is a whole number",
                help="use an integer expression",
            )
        return expression.value if expression.is_const else expression
    if number < 0:
        fail(
            Kind.SHAPE_VALUE, f"the shape of {what} holds {number}", span, because="a dimension cannot be negative", help="check the sizes that were passed in"
        )
    return number


@dataclass(frozen=True)
class TensorSpec:
    """An annotation: the shape, strides and dtype of a tensor parameter."""

    shape: tuple[Extent, ...]
    dtype: DType
    span: Span
    strides: tuple[Extent, ...] | None = None


@dataclass(frozen=True)
class PointerSpec:
    """`T.ptr` as an annotation: an untyped address."""


ptr = PointerSpec()


class _TensorFactory:
    """`T.Tensor(shape, dtype)` and `T.Tensor[shape, dtype]`."""

    def describe(self) -> str:
        return "T.Tensor without a shape"

    def __call__(self, shape: Any, dtype: Any = "float32", data: Any = None, scope: Any = None) -> TensorSpec | Buffer:
        span = span_of_caller()
        if data is not None:
            return view_as(data, parse_shape(shape, "T.Tensor", span), parse_dtype(dtype, span), span)
        if isinstance(dtype, PointerSpec):
            dtype = dtypes.int64
        return TensorSpec(parse_shape(shape, "T.Tensor", span), parse_dtype(dtype, span), span)

    def __getitem__(self, key: Any) -> TensorSpec | Buffer:
        if isinstance(key, tuple) and len(key) == 2 and not isinstance(key[1], (int, Expr)):
            return self(key[0], key[1])
        return self(key)

    def from_ptr(self, pointer: Any, shape: Any, dtype: Any = "float32", strides: Any = None) -> Buffer:
        return make_tensor(pointer, shape, dtype, strides)


Tensor = _TensorFactory()


class _StridedTensorFactory:
    """`T.StridedTensor(shape, strides, dtype)`: strides in elements."""

    def __call__(self, shape: Any, strides: Any, dtype: Any = "float32", scope: Any = None) -> TensorSpec:
        span = span_of_caller()
        parsed, steps = parse_shape(shape, "T.StridedTensor", span), parse_shape(strides, "the strides of T.StridedTensor", span)
        if len(parsed) != len(steps):
            fail(
                Kind.SHAPE_VALUE,
                f"T.StridedTensor has {len(parsed)} dimensions but {len(steps)} strides",
                span,
                because="each dimension has one stride",
                help="give one stride per dimension",
            )
        return TensorSpec(parsed, parse_dtype(dtype, span), span, steps)

    def describe(self) -> str:
        return "T.StridedTensor without a shape"

    def __getitem__(self, key: Any) -> TensorSpec:
        if not isinstance(key, tuple) or not 2 <= len(key) <= 3:
            fail(
                Kind.MISSING_ARGUMENT,
                f"T.StridedTensor[...] was given {len(key) if isinstance(key, tuple) else 1} of its parts",
                span_of_caller(),
                because="its parts are shape, strides and dtype",
                help='write T.StridedTensor[(m, n), (ld, 1), "float32"]',
            )
        return self(*key)


StridedTensor = _StridedTensorFactory()


def view_as(source: Any, shape: tuple[Extent, ...], dtype: DType, span: Span) -> Buffer:
    """Another shape and dtype over the same memory; the total size must be the same."""
    if not isinstance(source, Buffer):
        fail(Kind.OPERAND_KIND, f"{describe_operand(source)} is not a buffer", span, because="a view is made of a buffer", help="give a tensor or a tile")
    if source.scope is not Scope.GLOBAL and not all(isinstance(n, int) for n in shape):
        fail(
            Kind.SHAPE_STATIC,
            f"a view of {source.name} has the shape ({', '.join(map(str, shape))}), which is known only at run time",
            span,
            because=f"{source.name} is a {source.scope.value} tile, whose size is fixed when the kernel is compiled",
            help="view it with a constant shape, and slice what is needed",
        )
    if not all(isinstance(n, int) for n in (*shape, *source.shape)):
        _check_size_on_call(source, shape, dtype, span)
    if all(isinstance(n, int) for n in (*shape, *source.shape)):
        wanted, found = dtype.bits * dtype.lanes, source.dtype.bits * source.dtype.lanes
        for n in shape:
            wanted *= int(n)
        for n in source.static_shape:
            found *= n
        if wanted != found:
            fail(
                Kind.VIEW_SIZE,
                f"a view {dtype!s}{list(shape)} of {source.name} has {wanted} bits, but {source.name} ({source.dtype!s}{list(source.shape)}) has {found}",
                span,
                because="a view covers the same memory, no more and no less",
                help="make the products of the shapes agree",
            )
    return Buffer("<view>", dtype, shape, source.scope, span, None, source)


def _check_size_on_call(source: Buffer, shape: tuple[Extent, ...], dtype: DType, span: Span) -> None:
    """A symbolic view: whether the sizes agree is known when the kernel is called, and checked then."""
    builder = build.current()
    is_same_width = dtype.bits * dtype.lanes == source.dtype.bits * source.dtype.lanes
    wanted: Any = constant(1 if is_same_width else dtype.bits * dtype.lanes, dtypes.int64)
    found: Any = constant(1 if is_same_width else source.dtype.bits * source.dtype.lanes, dtypes.int64)
    for n in shape:
        wanted = wanted * n
    for n in source.shape:
        found = found * n
    if wanted is not found:
        builder.check_on_call(binary(Op.EQ, wanted, found), f"a view {dtype!s}[{', '.join(map(str, shape))}] of {source.name} does not cover it", span)


def dynamic(name: str, dtype: Any = "int32") -> Any:
    """A symbol for a size known only at run time; `"m, n"` or `"m n"` gives a tuple. Two calls give two symbols, even with one name."""
    kind = parse_dtype(dtype)
    names = [n for n in re.split(r"[,\s]+", name.strip()) if n] if isinstance(name, str) else []
    if not names or not all(n.isidentifier() for n in names):
        fail(
            Kind.SHAPE_VALUE,
            f"T.dynamic was given {describe_operand(name)} as a name",
            span_of_caller(),
            because="a symbol has a name such as n",
            help='write T.dynamic("n"), or T.dynamic("m, n") for two',
        )
    if not kind.is_integer:
        fail(
            Kind.SHAPE_VALUE,
            f"T.dynamic({name!r}) is {kind!s}",
            span_of_caller(),
            because="a symbol is a size: an integer",
            help='write T.dynamic("n"), or "int64" as its dtype',
        )
    symbols = tuple(var(n, kind) for n in names)
    return symbols[0] if len(symbols) == 1 else symbols


symbolic = dynamic


class _Dyn:
    """`T.dyn["K"]` and `T.dyn["K", "int64"]`."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) != 2:
            fail(
                Kind.SHAPE_VALUE,
                f"T.dyn[...] was given {len(key)} parts",
                span_of_caller(),
                because="its parts are a name and a dtype",
                help='write T.dyn["K"] or T.dyn["K", "int64"]',
            )
        return dynamic(*key) if isinstance(key, tuple) else dynamic(key)


dyn = _Dyn()


def const(name: str, dtype: Any = "int32") -> Any:
    """In eager functions: dimensions that specialise the kernel, one compile per value."""
    constants = getattr(build.current_or_none(), "constants", None)
    if not isinstance(name, str) or not (names := [n for n in re.split(r"[,\s]+", name.strip()) if n]) or not all(n.isidentifier() for n in names):
        fail(
            Kind.SHAPE_VALUE,
            f"T.const was given {describe_operand(name)} as a name",
            span_of_caller(),
            because="a dimension has a name such as M",
            help='write M, N = T.const("M, N")',
        )
    if constants is None:
        fail(
            Kind.CONST_PLACE,
            f"T.const({name!r}) stands outside an eager function",
            span_of_caller(),
            because="only a @tilewright.jit function without an inner prim_func is specialised by shape",
            help="use T.dynamic, or a parameter of the factory function",
        )
    made = tuple(constants(n, parse_dtype(dtype)) for n in names)
    return made[0] if len(made) == 1 else made


def empty(*shape: Any, dtype: Any = None) -> Buffer:
    """An output tensor, allocated when the kernel is called and returned: `T.empty((M, N), dtype)` or `T.empty(M, N, dtype=...)`."""
    builder = build.current()
    span = span_of_caller()
    if not shape:
        fail(
            Kind.SHAPE_VALUE,
            "T.empty was given no shape",
            span,
            because="an output has the shape that it is allocated with",
            help='write T.empty((M, N), "float32")',
        )
    if len(shape) == 2 and isinstance(shape[0], (tuple, list)) and dtype is None:
        dtype, shape = shape[1], shape[:1]
    elif len(shape) > 1 and isinstance(shape[-1], (str, DType)) and dtype is None:
        shape, dtype = shape[:-1], shape[-1]
    sizes = parse_shape(shape[0] if len(shape) == 1 else shape, "T.empty", span)
    buffer = Buffer(f"<output {len(builder.outputs)}>", parse_dtype("float32" if dtype is None else dtype, span), sizes, Scope.GLOBAL, span)
    builder.outputs.append(buffer)
    return buffer


def make_tensor(pointer: Any, shape: Any, dtype: Any = "float32", strides: Any = None) -> Buffer:
    """A global tensor over a raw address: a T.ptr parameter, or an integer expression."""
    span = span_of_caller()
    builder = build.current()
    is_number = isinstance(pointer, (int, Expr)) or (isinstance(pointer, Buffer) and pointer.scope is Scope.VARIABLE)
    address = as_expr(pointer) if is_number else None
    if address is None or (address.dtype != dtypes.handle and not address.dtype.is_integer):
        fail(
            Kind.OPERAND_KIND,
            f"{describe_operand(pointer)} is not an address",
            span,
            because="T.make_tensor takes a T.ptr parameter or an integer",
            help="declare the parameter as T.ptr",
        )
    sizes = parse_shape(shape, "T.make_tensor", span)
    steps = None if strides is None else parse_shape(strides, "the strides of T.make_tensor", span)
    if steps is not None and len(steps) != len(sizes):
        fail(
            Kind.SHAPE_VALUE,
            f"T.make_tensor has {len(sizes)} dimensions but {len(steps)} strides",
            span,
            because="each dimension has one stride",
            help="give one stride per dimension",
        )
    held = address if address.op is Op.VAR or address.is_const else builder.snapshot(address)
    return Buffer(
        "<tensor>", parse_dtype(dtype, span), sizes, Scope.GLOBAL, span, steps, None, cast(held, dtypes.handle) if held.dtype != dtypes.handle else held
    )


def make_tensor_from_addr(address: Any, shape: Any, dtype: Any, strides: Any = None, storage_scope: str = "global") -> Buffer:
    """The older spelling of `make_tensor`."""
    return make_tensor(address, shape, dtype, strides)


def reshape(buffer: Any, shape: Any) -> Buffer:
    """The same elements under another shape."""
    span = span_of_caller()
    source = buffer if isinstance(buffer, Buffer) else None
    return view_as(buffer, parse_shape(shape, "T.reshape", span), source.dtype if source is not None else dtypes.float32, span)


def view(buffer: Any, shape: Any = None, dtype: Any = None) -> Buffer:
    """The same memory under another shape or dtype; a new dtype reads the same bits."""
    span = span_of_caller()
    if not isinstance(buffer, Buffer):
        fail(Kind.OPERAND_KIND, f"{describe_operand(buffer)} is not a buffer", span, because="a view is made of a buffer", help="give a tensor or a tile")
    kind = buffer.dtype if dtype is None else parse_dtype(dtype, span)
    if shape is None:
        if not buffer.shape:
            fail(
                Kind.VIEW_SIZE,
                f"{buffer.name} has no dimension to view as {kind!s}",
                span,
                because="a new dtype splits or joins the elements of the last dimension",
                help="give the shape too",
            )
        last = buffer.shape[-1] * buffer.dtype.bits
        if isinstance(last, int) and last % kind.bits:
            fail(
                Kind.VIEW_SIZE,
                f"{buffer.name} has {last} bits along its last dimension, which is no multiple of {kind.bits} ({kind!s})",
                span,
                because="a view covers whole elements",
                help="give the shape too",
            )
        shape = (*buffer.shape[:-1], last // kind.bits)
    return view_as(buffer, parse_shape(shape, "T.view", span), kind, span)
