"""What the operations take: buffers, regions and points as regions, and the index arithmetic that they share (floor 4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.buffer import Buffer, Region, Scope, whole
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
    fail(Kind.OPERAND_KIND, f"{what} is {describe_operand(value)}, not a tile", span,
         because="a tile operation works on a buffer, a region A[i:j, :] or an element A[i, j] that says where a tile begins",
         help="give a buffer made by T.Tensor, T.alloc_shared or T.alloc_fragment")


def as_element(value: Any, what: str, span: Span) -> Region:
    """`A[i, j]`, or all of a buffer that has one element. A diagnostic names `what` otherwise."""
    region = as_region(value, what, span)
    if not all(is_one(n) for n in region.extents):
        fail(Kind.ATOMIC_TARGET, f"{what} is {describe_operand(value)}", (Label(span), Label(region.buffer.span)), because="it works on one element at a time",
             help=f"index it, as in {region.buffer.name}[{', '.join('ijklmn'[: region.buffer.rank])}], inside T.Parallel")
    return region


def as_flag(value: Any, name: str, span: Span) -> bool:
    """A switch of an operation: it decides what code there is, so its value is known now."""
    if isinstance(value, (bool, int)):
        return bool(value)
    fail(Kind.OPTION_VALUE, f"{name} is {describe_operand(value)}", span, because="it decides which code is generated, so it is a Python bool", help=f"write {name}=True or {name}=False")


def has_extent(region: Region) -> bool:
    """False for an element, which only says where something begins."""
    return any(region.is_slice)


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
        apart = other - start  # a constant where the symbols cancel
        if apart.is_const and isinstance(length, int) and isinstance(width, int) and (apart.value >= length or apart.value <= -width):
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
        if start.is_const and isinstance(length, int) and isinstance(extent, int) and 0 <= start.value and start.value + length <= extent:
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


def linear_address(context: LoweringContext, buffer: Buffer, starts: tuple[Expr, ...]) -> tuple[Expr, tuple[int, ...]]:
    """Offset in elements of a point of a row-major tile, and the stride of each axis, both as the tile is stored."""
    shape = buffer.static_shape
    strides = [1] * len(shape)
    if len(shape) > 1:
        strides[-2] = context.plan(buffer).row_pitch
        for axis in range(len(shape) - 3, -1, -1):
            strides[axis] = strides[axis + 1] * shape[axis + 1]
    offset: Expr = const(0)
    for start, stride in zip(starts, strides, strict=True):
        offset = offset + start * stride
    return offset, tuple(strides)
