"""Buffers and regions of them (floor 2). A buffer carries no layout: layouts live in the schedule, beside the program."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn

from tilewright.dtypes import DType
from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir import build
from tilewright.ir.expr import Expr, as_expr, as_integer, binary, cast, const, describe_operand, load, refuse_matmul
from tilewright.ir.expr import Op as ExprOp
from tilewright.ir.lanes import pack_lanes, split_value
from tilewright.ir.numpy_operators import numpy_operator
from tilewright.spans import is_user_file, span_of_caller

Extent = int | Expr


class Scope(Enum):
    """Where a buffer lives and who sees it."""

    GLOBAL = "global"  # a parameter or a workspace: every block
    SHARED = "shared"  # the block
    FRAGMENT = "fragment"  # one logical tile spread over the block's threads
    LOCAL = "local"  # each thread has its own copy
    VARIABLE = "variable"  # a mutable scalar per thread
    REDUCER = "reducer"  # an accumulator of a deferred reduction
    BARRIER = "barrier"  # mbarriers

    def __call__(self) -> str:
        """`buffer.scope()`, as programs ask for it: the name that the allocation takes."""
        return {Scope.SHARED: "shared.dyn", Scope.FRAGMENT: "local.fragment", Scope.VARIABLE: "local.var"}.get(self, self.value)


@dataclass(frozen=True, eq=False)
class Buffer:
    """A typed array; identity is the object.

    shape          ints, or expressions of symbols for GLOBAL buffers.
    given_strides  in elements; None means row-major contiguous.
    source         the buffer whose memory this one shares (a view), None for one of its own.
    pointer        for GLOBAL buffers made over a raw address: the uint64 expression that gives it.
    """

    name: str
    dtype: DType
    shape: tuple[Extent, ...]
    scope: Scope
    span: Span
    given_strides: tuple[Extent, ...] | None = None
    source: Buffer | None = None
    pointer: Expr | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def storage(self) -> Buffer:
        """The buffer that owns the memory: itself, or the root of its views."""
        return self if self.source is None else self.source.storage

    @property
    def data(self) -> Buffer:
        """What `T.Tensor(shape, dtype, buffer.data)` takes: the memory itself."""
        return self

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape of a tile, all ints. ValueError where a symbol remains."""
        if not all(isinstance(n, int) for n in self.shape):
            raise ValueError(f"{self.name} has a symbolic shape")
        return tuple(n for n in self.shape if isinstance(n, int))

    @property
    def strides(self) -> tuple[Extent, ...]:
        """In elements, as a program asks for them: `A.strides[0]`."""
        return self.element_strides()

    def element_strides(self) -> tuple[Extent, ...]:
        """Strides in elements, the row-major ones where none were given."""
        if self.given_strides is not None:
            return self.given_strides
        strides: list[Extent] = []
        step: Extent = 1
        for extent in reversed(self.shape):
            strides.append(step)
            step = step * extent
        return tuple(reversed(strides))

    def describe(self) -> str:
        return f"the whole {self.scope.value} buffer {self.name} ({format_shape(self)})"

    def __getitem__(self, key: Any) -> Expr | Region:
        return index(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        build.current().store(self, key, value)

    def __bool__(self) -> bool:
        if self.scope is Scope.VARIABLE:
            return bool(self.as_expression())
        fail(
            Kind.BUFFER_CONDITION,
            f"the tile {self.name} ({format_shape(self)}) is used as a condition",
            span_of_caller(),
            because="a tile has many elements, and no single truth value",
            help=f"compare one element, as in {self.name}[0] != 0, or write T.any_of({self.name}) or T.all_of({self.name})",
        )

    def __len__(self) -> int:
        fail(
            Kind.BUFFER_OPERATOR,
            f"len() was asked of {self.describe()}",
            span_of_caller(),
            because="a buffer has an extent in each dimension",
            help=f"write {self.name}.shape[0]",
        )

    def __matmul__(self, other: Any) -> NoReturn:
        refuse_matmul(self)

    __rmatmul__ = __matmul__

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Expr:
        return numpy_operator(function, method, inputs)

    def __iter__(self) -> Iterator[Any]:
        fail(
            Kind.LOOP_ITERABLE,
            f"{self.describe()} cannot be iterated over in Python",
            span_of_caller(),
            because="its elements exist only when the kernel runs",
            help="loop over its indices with T.serial, range or T.Parallel",
        )

    def as_expression(self) -> Expr:
        """Where a scalar is wanted: an alloc_var's value."""
        if self.scope is Scope.VARIABLE:
            return load(self, (const(0),))
        _refuse_operator(self)

    def astype(self, dtype: Any) -> Expr:
        return self.as_expression().astype(dtype)

    def access_ptr(self, access: Any = "r", *, offset: Any = 0, extent: Any = None) -> Reference:
        """The address `offset` elements, counted row-major, behind the first; see `T.access_ptr`."""
        return address(self, tuple(const(0) for _ in self.shape), access, offset, extent)


def _refuse_operator(buffer: Buffer) -> NoReturn:
    fail(
        Kind.BUFFER_OPERATOR,
        f"{buffer.describe()} cannot take part in an expression",
        span_of_caller(),
        because="arithmetic works on elements; a tile is computed element by element inside T.Parallel",
        help=f"write for {', '.join('ijkl'[: buffer.rank])} in T.Parallel({', '.join(map(str, buffer.shape))}): ... "
        f"{buffer.name}[{', '.join('ijkl'[: buffer.rank])}]",
    )


def _forward(name: str) -> Any:
    def operator(self: Buffer | Region, *args: Any) -> Any:
        return getattr(self.as_expression(), name)(*args)

    operator.__name__ = name
    return operator


# The only element of a region, or the value of an alloc_var, takes part in expressions as it is at that point; every other buffer refuses.
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"):
    setattr(Buffer, f"__{_name}__", _forward(f"__{_name}__"))
    setattr(Buffer, f"__r{_name}__", _forward(f"__r{_name}__"))
for _name in ("neg", "pos", "invert", "abs", "lt", "le", "gt", "ge", "int", "index", "float", "round"):
    setattr(Buffer, f"__{_name}__", _forward(f"__{_name}__"))


def _equal(self: Buffer, other: Any) -> Any:
    """Identity between buffers; for an alloc_var against a value, the comparison of its value."""
    if isinstance(other, Buffer) and _is_identity_asked(self):
        return self is other
    return self.as_expression() == other


def _unequal(self: Buffer, other: Any) -> Any:
    if isinstance(other, Buffer) and _is_identity_asked(self):
        return self is not other
    return self.as_expression() != other


def _is_identity_asked(left: Buffer) -> bool:
    """Two tiles are one object or not; two variables are compared by value in the user's code, by identity in ours (`buffer in buffers`)."""
    return left.scope is not Scope.VARIABLE or not is_user_file(sys._getframe(2).f_code.co_filename)


Buffer.__eq__ = _equal  # type: ignore[assignment, method-assign]
Buffer.__ne__ = _unequal  # type: ignore[assignment, method-assign]
Buffer.__hash__ = object.__hash__  # type: ignore[method-assign]


@dataclass(frozen=True, eq=False)
class Region:
    """A box of a buffer: `starts[d] <= index < starts[d] + extents[d]` on each axis.

    is_slice   per axis: written as a slice; a plain index is an axis of extent 1 that was not.
    """

    buffer: Buffer
    starts: tuple[Expr, ...]
    extents: tuple[Extent, ...]
    is_slice: tuple[bool, ...]
    span: Span

    @property
    def dtype(self) -> DType:
        return self.buffer.dtype

    @property
    def shape(self) -> tuple[Extent, ...]:
        """The extents of the axes that were sliced."""
        return tuple(n for n, kept in zip(self.extents, self.is_slice, strict=True) if kept)

    @property
    def is_whole(self) -> bool:
        return all(s.is_const and s.value == 0 for s in self.starts) and all(
            a is b or (isinstance(a, int) and isinstance(b, int) and a == b) for a, b in zip(self.extents, self.buffer.shape, strict=True)
        )

    def describe(self) -> str:
        return f"the region {self}"

    def as_expression(self) -> Expr:
        """Where a scalar is wanted: the only element."""
        if all(n == 1 for n in self.extents if isinstance(n, int)) and all(isinstance(n, int) for n in self.extents):
            return load(self.buffer, self.starts)
        fail(
            Kind.SLICE_VALUE,
            f"{self} is a region of {self.buffer.name}, not one value",
            span_of_caller(),
            because="arithmetic works on elements",
            help="index one element, or give the region to a tile operation such as T.copy",
        )

    def __getitem__(self, key: Any) -> Expr | Region:
        """Indices are relative to the region; they cover its sliced axes."""
        inner = index(_shape_proxy(self), key)
        relative = inner.args if isinstance(inner, Expr) else inner.starts
        starts = list(self.starts)
        extents: list[Extent] = [1] * len(starts)
        slices = [False] * len(starts)
        kept = [axis for axis, sliced in enumerate(self.is_slice) if sliced]
        for position, axis in enumerate(kept):
            starts[axis] = self.starts[axis] + relative[position]
            if isinstance(inner, Region):
                extents[axis], slices[axis] = inner.extents[position], inner.is_slice[position]
        if isinstance(inner, Expr):
            return load(self.buffer, tuple(starts))
        return Region(self.buffer, tuple(starts), tuple(extents), tuple(slices), span_of_caller())

    def __setitem__(self, key: Any, value: Any) -> None:
        build.current().store_region(self[key], value)

    def __matmul__(self, other: Any) -> NoReturn:
        refuse_matmul(self)

    __rmatmul__ = __matmul__

    def __eq__(self, other: Any) -> Any:
        return self is other if isinstance(other, Region) else self.as_expression() == other

    def __ne__(self, other: Any) -> Any:
        return self is not other if isinstance(other, Region) else self.as_expression() != other

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return self.buffer.__bool__() if not all(n == 1 for n in self.shape) else bool(self.as_expression())

    def __str__(self) -> str:
        parts = []
        for start, extent, sliced in zip(self.starts, self.extents, self.is_slice, strict=True):
            parts.append(f"{start}:{start + extent}" if sliced else f"{start}")
        return f"{self.buffer.name}[{', '.join(parts)}]"


@dataclass(frozen=True, eq=False)
class Reference(Region):
    """An element or a region that is written through where it is assigned: what a T.Ref parameter of a macro stands for; also an address.

    access, elements   what code of another language does from an address on: "r", "w" or "rw", with how many elements; None: with any of the buffer.
    """

    access: str = "rw"
    elements: int | None = None

    @classmethod
    def of(cls, place: Expr | Region, access: str = "rw", elements: int | None = None) -> Reference:
        """Of an element, or of a region."""
        if isinstance(place, Expr):
            return cls(place.buffer, place.args, (1,) * len(place.args), (False,) * len(place.args), span_of_caller(), access, elements)
        return cls(place.buffer, place.starts, place.extents, place.is_slice, place.span, access, elements)

    @property
    def is_element(self) -> bool:
        return not any(self.is_slice)

    @property
    def target(self) -> Expr | Region:
        """What an assignment writes."""
        return load(self.buffer, self.starts) if self.is_element else self


_ACCESSES = ("r", "w", "rw", "wr")


def address(buffer: Buffer, indices: tuple[Expr, ...], access: Any, offset: Any, extent: Any = None) -> Reference:
    """The place `offset` elements, counted row-major, behind an element; of `extent` elements, as far as that is a number.

    Raises TileError (option-value) for an unknown access.
    """
    if not isinstance(access, str) or access not in _ACCESSES:
        fail(
            Kind.OPTION_VALUE,
            f"the access of an address is {describe_operand(access)}",
            span_of_caller(),
            because=f"known are {', '.join(map(repr, _ACCESSES))}",
            help='write "r", "w" or "rw"',
        )
    step, elements = as_expr(offset), as_integer(extent)
    if len(indices) == 1 or (step.is_const and step.value == 0):
        return Reference.of(load(buffer, (*indices[:-1], indices[-1] + step)), access, elements)
    position: Expr = const(0)
    for index_, size in zip(indices, buffer.shape, strict=True):
        position = position * size + index_
    position = position + step
    found: list[Expr] = []
    for size in reversed(buffer.shape[1:]):
        found.append(position % size)
        position = position // size
    return Reference.of(load(buffer, (position, *reversed(found))), access, elements)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"):
    setattr(Region, f"__{_name}__", _forward(f"__{_name}__"))
    setattr(Region, f"__r{_name}__", _forward(f"__r{_name}__"))
for _name in ("neg", "pos", "invert", "abs", "lt", "le", "gt", "ge", "int", "index", "float", "round"):
    setattr(Region, f"__{_name}__", _forward(f"__{_name}__"))


def _shape_proxy(region: Region) -> Buffer:
    return Buffer(str(region), region.dtype, region.shape, region.buffer.scope, region.span)


def whole(buffer: Buffer) -> Region:
    """The region that is all of the buffer."""
    return Region(buffer, tuple(const(0) for _ in buffer.shape), buffer.shape, (True,) * buffer.rank, buffer.span)


def format_shape(buffer: Buffer | Region) -> str:
    """`float16[128, 64]`."""
    return f"{buffer.dtype!s}[{', '.join(str(n) for n in buffer.shape)}]"


def index(buffer: Buffer, key: Any) -> Expr | Region:
    """`buffer[key]`: an element where every axis has a plain index, a region where one has a slice.

    Constant indices are checked against the shape of tiles (global buffers are guarded instead) and wrap when negative, as in Python.
    """
    keys = key if isinstance(key, tuple) else (key,)
    span = span_of_caller()
    if any(k is Ellipsis for k in keys):
        at = next(i for i, k in enumerate(keys) if k is Ellipsis)
        keys = keys[:at] + (slice(None),) * (buffer.rank - len(keys) + 1) + keys[at + 1 :]
    if len(keys) != buffer.rank:
        given = f"{len(keys)} ind{'ices were' if len(keys) != 1 else 'ex was'} given"
        fail(
            Kind.INDEX_COUNT,
            f"{buffer.name} has {buffer.rank} dimension{'s' * (buffer.rank != 1)} ({format_shape(buffer)}), but {given}",
            (Label(span), Label(buffer.span, f"{buffer.name}: {format_shape(buffer)}")),
            because="an element needs one index per dimension",
            help=f"write {buffer.name}[{', '.join('ijklmn'[: buffer.rank])}]" + (", with `:` for a whole axis" if buffer.rank > 1 else ""),
        )
    starts: list[Expr] = []
    extents: list[Extent] = []
    for axis, item in enumerate(keys):
        start, extent = _slice_of(buffer, axis, item, span) if isinstance(item, slice) else (_index_of(buffer, axis, item, span), 1)
        starts.append(start)
        extents.append(extent)
    slices = tuple(isinstance(item, slice) for item in keys)
    if not any(slices):
        return _load_lanes(buffer, starts, span) if any(s.dtype.lanes > 1 for s in starts) else load(buffer, tuple(starts))
    return Region(buffer, tuple(starts), tuple(extents), slices, span)


def _load_lanes(buffer: Buffer, starts: list[Expr], span: Span) -> Expr:
    """An index of several lanes (T.Ramp) means that many elements, one per lane."""
    return pack_lanes([load(buffer, at) for at in index_lanes(buffer, starts, span)])


def index_lanes(buffer: Buffer, indices: Sequence[Expr], span: Span) -> list[tuple[Expr, ...]]:
    """The indices of each element that an index of several lanes means."""
    counts = {s.dtype.lanes for s in indices} - {1}
    if len(counts) != 1 or buffer.dtype.lanes > 1:
        fail(
            Kind.INDEX_TYPE,
            f"{buffer.name} ({buffer.dtype!s}) is indexed by {', '.join(str(i.dtype) for i in indices)}",
            span,
            because="a vector index names one element of one lane for each of its lanes",
            help="give the vector indices one number of lanes; of a buffer of vectors, index one element at a time",
        )
    (count,) = counts
    lanes = [split_value(i) if i.dtype.lanes > 1 else (i,) * count for i in indices]
    return [tuple(axis[lane] for axis in lanes) for lane in range(count)]


def _index_of(buffer: Buffer, axis: int, item: Any, span: Span) -> Expr:
    _check_index_kind(buffer, item, span)
    number = as_integer(item)
    position = as_expr(item if number is None else number)
    if position.dtype.is_float:
        fail(
            Kind.INDEX_TYPE,
            f"`{position}` is {position.dtype!s}, but an index of {buffer.name} must be an integer",
            span,
            because="floats are not converted to indices silently",
            help="convert it with T.cast(x, 'int32')",
        )
    if position.dtype.is_bool:
        position = cast(position, const(0).dtype)
    extent = buffer.shape[axis]
    if position.is_const and isinstance(extent, int):
        if position.value < 0 and position.value >= -extent:
            return const(position.value + extent)
        if buffer.scope is not Scope.GLOBAL and not 0 <= position.value < extent:
            fail(
                Kind.INDEX_RANGE,
                f"index {position.value} is outside {buffer.name}, whose dimension {axis} has {extent} elements",
                (Label(span), Label(buffer.span, f"{buffer.name}: {format_shape(buffer)}")),
                because=f"the last index is {extent - 1}; only global tensors are guarded against indices outside",
                help="correct the index, or allocate a larger tile",
            )
    if position.is_const and position.value < 0 and isinstance(extent, Expr):
        return extent + position
    return position


def _check_index_kind(buffer: Buffer, item: Any, span: Span) -> None:
    is_tile = isinstance(item, Buffer) and item.scope is not Scope.VARIABLE
    if is_tile or not (isinstance(item, Expr) or hasattr(item, "as_expression") or as_integer(item) is not None):
        fail(
            Kind.INDEX_TYPE,
            f"{describe_operand(item)} is not an index of {buffer.name}",
            span,
            because="an index is an integer or an integer expression",
            help=f"give one element, as in {buffer.name}[{item.name}[i]]" if is_tile else "give an int, a loop index, a block index or an expression of them",
        )


def _slice_of(buffer: Buffer, axis: int, item: slice, span: Span) -> tuple[Expr, Extent]:
    if item.step is not None and not (isinstance(item.step, int) and item.step == 1):
        fail(
            Kind.SLICE_STEP,
            f"the slice of {buffer.name} has step {item.step}",
            span,
            because="regions are dense boxes: only step 1 exists",
            help="copy the elements in a T.Parallel loop and write the stride into the index",
        )
    for written in (item.start, item.stop):
        if written is not None:
            _check_index_kind(buffer, written, span)
    extent = buffer.shape[axis]
    start = as_expr(0 if item.start is None else item.start)
    stop = as_expr(extent if item.stop is None else item.stop)
    for bound in (start, stop):
        if not bound.dtype.is_integer:
            fail(
                Kind.INDEX_TYPE,
                f"`{bound}` is {bound.dtype!s}, but a slice bound of {buffer.name} must be an integer",
                span,
                because="floats are not converted to indices silently",
                help="convert it with T.cast(x, 'int32')",
            )
    if isinstance(extent, int):
        start, stop = (
            const(x.value + extent)
            if x.is_const and x.value < 0 and written is not None and isinstance(written, int) and buffer.scope is not Scope.GLOBAL
            else x
            for x, written in ((start, item.start), (stop, item.stop))
        )
    length = difference(start, stop)
    if isinstance(length, int) and length <= 0:
        fail(
            Kind.SLICE_EMPTY,
            f"the slice {start}:{stop} of {buffer.name} holds no element",
            span,
            because="a region has at least one element on each axis",
            help="exchange the bounds, or leave the statement out",
        )
    if (
        buffer.scope is not Scope.GLOBAL
        and isinstance(extent, int)
        and start.is_const
        and isinstance(length, int)
        and not 0 <= start.value <= start.value + length <= extent
    ):
        fail(
            Kind.REGION_RANGE,
            f"the slice {start.value}:{start.value + length} goes outside {buffer.name}, whose dimension {axis} has {extent} elements",
            (Label(span), Label(buffer.span, f"{buffer.name}: {format_shape(buffer)}")),
            because="only global tensors are clipped; a tile has nothing beyond its end",
            help=f"end the slice at {extent}, or allocate a larger tile",
        )
    return start, length


def difference(start: Expr, stop: Expr) -> Extent:
    """stop - start; an int where the symbols cancel (`k * 64 : (k + 1) * 64`)."""
    total = _linear(stop, 1, _linear(start, -1, {}))
    constant = total.pop(None, 0)
    terms = sorted(((term, factor) for term, factor in total.items() if term is not None and factor), key=lambda item: item[1] < 0)
    if not terms:
        return constant
    result = const(constant)
    for term, factor in terms:
        result = binary(ExprOp.SUB, result, term) if factor == -1 and result is not const(0) else result + term * factor
    return result


def _linear(node: Expr, scale: int, into: dict[Expr | None, int]) -> dict[Expr | None, int]:
    """Adds scale * node to a sum of products; None holds the constant. Enough to cancel equal terms; `arith` does the real algebra."""
    if node.is_const:
        into[None] = into.get(None, 0) + scale * node.value
    elif node.op is ExprOp.ADD or node.op is ExprOp.SUB:
        _linear(node.args[0], scale, into)
        _linear(node.args[1], scale if node.op is ExprOp.ADD else -scale, into)
    elif node.op is ExprOp.MUL and node.args[1].is_const:
        _linear(node.args[0], scale * node.args[1].value, into)
    elif node.op is ExprOp.MUL and node.args[0].is_const:
        _linear(node.args[1], scale * node.args[0].value, into)
    else:
        # Dictionary look-up by identity: hash is the object's, and the `is` test that dict makes first succeeds before `==` is asked.
        for key in into:
            if key is node:
                into[key] += scale
                return into
        into[node] = scale
    return into
