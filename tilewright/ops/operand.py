"""What the operations take: buffers, regions and points as regions, and the index arithmetic that they share (floor 4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir import build
from tilewright.ir.buffer import Buffer, Region, Scope, difference, whole
from tilewright.ir.expr import Expr, Op, as_expr, binary, const, describe_operand, logical
from tilewright.ir.tileop import LoweringContext, ReferenceEnvironment

Array = np.ndarray[Any, Any]


def as_region(value: Any, what: str, span: Span) -> Region:
    """A buffer (all of it), a region, or an element `A[i, j]` as a region without extent. A diagnostic names `what` otherwise."""
    if isinstance(value, Buffer):
        return whole(value)
    if isinstance(value, Region):
        return value
    if isinstance(value, Expr) and value.op is Op.LOAD:
        return Region(value.buffer, value.args, (1,) * len(value.args), (False,) * len(value.args), span)
    fail(
        Kind.OPERAND_KIND,
        f"{what} is {describe_operand(value)}, not a tile",
        span,
        because="a tile operation works on a buffer, a region A[i:j, :] or an element A[i, j] that says where a tile begins",
        help="assign a value to elements, as in B[i] = ..., or fill a tile with T.fill"
        if isinstance(value, Expr)
        else "give a buffer made by T.Tensor, T.alloc_shared or T.alloc_fragment",
    )


def fixed(region: Region) -> Region:
    """The region at the place and of the size that it has now: what they are read from may be overwritten by the operation itself."""
    made: Region = build.current().snapshot(region, "place")
    return made


def as_element(value: Any, what: str, span: Span) -> Region:
    """`A[i, j]`, or all of a buffer that has one element. A diagnostic names `what` otherwise."""
    region = as_region(value, what, span)
    if not all(is_one(n) for n in region.extents):
        fail(
            Kind.ATOMIC_TARGET,
            f"{what} is {describe_operand(value)}",
            (Label(span), Label(region.buffer.span)),
            because="it works on one element at a time",
            help=f"index it, as in {region.buffer.name}[{', '.join('ijklmn'[: region.buffer.rank])}], inside T.Parallel",
        )
    return region


def as_flag(value: Any, name: str, span: Span) -> bool:
    """A switch of an operation: it decides what code there is, so its value is known now."""
    if isinstance(value, (bool, int)):
        return bool(value)
    fail(
        Kind.OPTION_VALUE,
        f"{name} is {describe_operand(value)}",
        span,
        because="it decides which code is generated, so it is a Python bool",
        help=f"write {name}=True or {name}=False",
    )


def has_extent(region: Region) -> bool:
    """False for an element, which only says where something begins."""
    return any(region.is_slice)


def leading_axes(new: Region, old: Region, value: int) -> tuple[int, ...]:
    """`value` for each axis that a region's buffer has got in front of those of the old one."""
    return (value,) * (new.buffer.rank - old.buffer.rank)


def place(region: Region, offsets: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """The index of a point of a region, whose offsets count along its sliced axes."""
    steps = iter(offsets)
    return tuple(start + next(steps) if is_sliced else start for start, is_sliced in zip(region.starts, region.is_slice, strict=True))


def is_one(extent: int | Expr) -> bool:
    return (isinstance(extent, int) and extent == 1) or (isinstance(extent, Expr) and extent.is_const and extent.value == 1)


def same_extent(a: int | Expr, b: int | Expr) -> bool:
    """Structurally equal extents."""
    return as_expr(a) is as_expr(b)


def may_overlap(first: Region, second: Region) -> bool:
    """Whether two regions may share an element. Boxes of one buffer with constant bounds are compared; views of one memory count as overlapping."""
    if first.buffer.storage is not second.buffer.storage:
        return False
    if first.buffer is not second.buffer:
        return True
    for start, length, other, width in zip(first.starts, first.extents, second.starts, second.extents, strict=True):
        apart = difference(start, other)
        if isinstance(apart, int) and isinstance(length, int) and isinstance(width, int) and (apart >= length or apart <= -width):
            return False
    return True


def name_region(region: Region) -> str:
    """The buffer's name where the region is all of it, else the region as written."""
    return region.buffer.name if region.is_whole else str(region)


def bounds_conditions(region: Region, indices: tuple[Expr, ...]) -> Expr | None:
    """What must hold for tile indices to be inside; None where constants show that they are, or where the global guard sees to it."""
    condition: Expr | None = None
    if region.buffer.scope is Scope.GLOBAL:
        return None
    for axis, (index, extent) in enumerate(zip(indices, region.buffer.shape, strict=True)):
        start, length = region.starts[axis], region.extents[axis]
        if start.is_const and isinstance(length, int) and isinstance(extent, int) and 0 <= start.value <= extent - length:
            continue
        inside = logical(Op.AND, index >= 0, binary(Op.LT, index, extent))
        condition = inside if condition is None else logical(Op.AND, condition, inside)
    return condition


def index_arrays(environment: ReferenceEnvironment, region: Region, axes: tuple[int, ...], domain: tuple[int, ...]) -> tuple[list[Array], Array]:
    """For the reference: integer index arrays of a region over a domain, and where they lie inside the buffer.

    axes[d] is the domain axis that buffer axis d runs along, -1 where it stands still.
    """
    grids = np.indices(domain, sparse=True) if domain else ()
    shape = environment.array(region.buffer).shape
    indices: list[Array] = []
    inside: Array = np.ones((1,) * len(domain), bool)
    for axis, start in enumerate(region.starts):
        index = np.asarray(int(environment.value(start))) + (grids[axes[axis]] if axes[axis] >= 0 else np.zeros((1,) * len(domain), np.int64))
        inside = inside & (index >= 0) & (index < shape[axis])
        indices.append(index)
    return indices, np.broadcast_to(inside, domain)


def plain_index(environment: ReferenceEnvironment, region: Region, axes: tuple[int, ...], domain: tuple[int, ...]) -> tuple[int | slice, ...] | None:
    """For the reference: what numpy takes as the index of a region that lies inside its buffer, its axes those of the domain in order; else None."""
    if tuple(a for a in axes if a >= 0) != tuple(range(len(domain))):
        return None
    index: list[int | slice] = []
    for start, axis, size in zip(region.starts, axes, environment.array(region.buffer).shape, strict=False):
        first, extent = int(environment.value(start)), 1 if axis < 0 else domain[axis]
        if first < 0 or first + extent > size:
            return None
        index.append(first if axis < 0 else slice(first, first + extent))
    return tuple(index)


def read_box(environment: ReferenceEnvironment, region: Region) -> Array:
    """For the reference: a copy of a region's elements, with the safe value where it leaves a tensor. TileError where it leaves a tile."""
    domain = tuple(max(0, n) for _, n in environment.box(region))
    plain = plain_index(environment, region, tuple(range(len(domain))), domain)
    if plain is not None:
        return environment.array(region.buffer)[plain].copy()
    indices, inside, domain = _box(environment, region)
    source = environment.array(region.buffer)
    safe = np.full(domain, environment.safe_value(region.buffer), source.dtype)
    if source.size:
        found = source[tuple(np.clip(i, 0, n - 1) for i, n in zip(indices, source.shape, strict=True))]
        return np.where(inside, found, safe)
    return safe


def write_box(environment: ReferenceEnvironment, region: Region, values: Array) -> None:
    """For the reference: stores into a region what lies inside its tensor. TileError where it leaves a tile."""
    plain = plain_index(environment, region, tuple(range(values.ndim)), values.shape)
    if plain is not None:
        environment.array(region.buffer)[plain] = values
        return
    indices, inside, domain = _box(environment, region)
    environment.array(region.buffer)[tuple(np.broadcast_to(i, domain)[inside] for i in indices)] = values[inside]


def _box(environment: ReferenceEnvironment, region: Region) -> tuple[list[Array], Array, tuple[int, ...]]:
    domain = tuple(max(0, n) for _, n in environment.box(region))
    indices, inside = index_arrays(environment, region, tuple(range(len(domain))), domain)
    if region.buffer.scope is not Scope.GLOBAL and not inside.all():
        places = ", ".join(f"{start}:{start + n}" for start, n in environment.box(region))
        fail(
            Kind.REGION_RANGE,
            f"the region {region.buffer.name}[{places}] goes outside {region.buffer.name}",
            (Label(region.span), Label(region.buffer.span)),
            because="only global tensors are clipped; a tile has nothing beyond its end",
            help="correct the region, or allocate a larger tile",
        )
    return indices, inside, domain


def linear_address(context: LoweringContext, buffer: Buffer, starts: tuple[Expr, ...]) -> tuple[Expr, tuple[int, ...]]:
    """Offset in elements of a point, and the stride of each axis: of a tile as it is stored row by row, of a tensor as declared (all strides ints)."""
    strides = [int(s) for s in buffer.element_strides()]
    if buffer.scope is not Scope.GLOBAL and buffer.rank > 1:
        strides[-2] = context.plan(buffer).row_pitch
        for axis in range(buffer.rank - 3, -1, -1):
            strides[axis] = strides[axis + 1] * buffer.static_shape[axis + 1]
    offset: Expr = const(0)
    for start, stride in zip(starts, strides, strict=True):
        offset = offset + start * stride
    return offset, tuple(strides)


def matrix_extents(region: Region) -> tuple[int, int]:
    """Rows and columns of a region whose last two axes are a matrix."""
    rows, columns = region.extents[-2:]
    return int(rows), int(columns)
