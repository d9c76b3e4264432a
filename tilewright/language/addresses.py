"""Addresses of elements (floor 5; language.md 10.6): what atomics, asynchronous copies and T.Ref parameters take as a place.

An address is a `Reference`: a buffer and the indices of an element. It is no number, and nothing is computed with it but an offset.
"""

from __future__ import annotations

from typing import Any

from tilewright.errors import Kind, fail
from tilewright.ir.buffer import Buffer, Reference, Region, address
from tilewright.ir.expr import Expr, Op, const, describe_operand
from tilewright.spans import span_of_caller


def address_of(place: Any) -> Reference:
    """The address of an element `A[i, j]`, or of the first element of a buffer or region.

    Raises TileError (operand-kind) for anything else.
    """
    return access_ptr(place, "rw")


def access_ptr(base: Any, access: Any = "r", *extents: Any, offset: Any = 0, extent: Any = None, ignore_last_ndim: int = 0) -> Reference:
    """The address `offset` elements, counted row-major, behind an element or the first element of a buffer or region.

    access, extent     what T.call_extern and T.ptx do with the memory: "r", "w" or "rw"; extent=1 means this element alone, anything else any of the buffer.
    extents, ignore_last_ndim   a box from there on, which counts as any of the buffer.

    Raises TileError (operand-kind, option-value) for what has no address, and an unknown access.
    """
    if isinstance(base, Buffer):
        return address(base, tuple(const(0) for _ in base.shape), access, offset, extent)
    if isinstance(base, Region):
        return address(base.buffer, base.starts, access, offset, extent)
    if isinstance(base, Expr) and base.op is Op.LOAD:
        return address(base.buffer, base.args, access, offset, extent)
    fail(
        Kind.OPERAND_KIND,
        f"{describe_operand(base)} has no address",
        span_of_caller(),
        because="elements of tensors and tiles lie in memory; values do not",
        help="give an element, as in T.address_of(A[i])",
    )
