"""`T.dp4a`: four products of bytes added to an int32 (floor 4; language.md 7.3)."""

from __future__ import annotations

from typing import Any

from tilewright import dtypes
from tilewright.errors import Kind, Label, fail
from tilewright.ir import build
from tilewright.ir.buffer import Region
from tilewright.ir.expr import Expr, cast, const, load
from tilewright.ops.operand import as_region

_BYTES = ("int8", "uint8")


def dp4a(A: Any, B: Any, C: Any) -> None:
    """C += A[0] * B[0] + ... + A[3] * B[3], of four neighbouring bytes of each, in int32.

    An operand is a buffer or a region, whose first elements count, or an element, where they begin.

    Raises TileError (gemm-dtype, gemm-k-mismatch) for other dtypes, and fewer than four bytes.
    """
    builder = build.current()
    span = builder.here()
    a, b, c = (as_region(x, f"the operand {name} of T.dp4a", span) for x, name in ((A, "A"), (B, "B"), (C, "C")))
    if a.dtype not in _BYTES or b.dtype not in _BYTES or c.dtype != dtypes.int32:
        fail(
            Kind.GEMM_DTYPE,
            f"T.dp4a was given {a.buffer.name} of {a.dtype!s}, {b.buffer.name} of {b.dtype!s} and {c.buffer.name} of {c.dtype!s}",
            (Label(span), *(Label(r.buffer.span) for r in (a, b, c))),
            because="it multiplies int8 or uint8 and adds up in int32",
            help="convert the operands, or use T.gemm",
        )
    total: Expr = load(c.buffer, c.starts)
    for step in range(4):
        total = total + cast(_byte(a, step), dtypes.int32) * cast(_byte(b, step), dtypes.int32)
    builder.store(c.buffer, c.starts, total)


def _byte(region: Region, step: int) -> Expr:
    extent, start = region.buffer.shape[-1], region.starts[-1]
    if isinstance(extent, int) and start.is_const and start.value + 4 > extent:
        fail(
            Kind.GEMM_K_MISMATCH,
            f"{region.buffer.name} has {extent - start.value} elements from {start} on in its last dimension",
            (Label(region.span), Label(region.buffer.span)),
            because="T.dp4a takes four neighbouring bytes",
            help="give a buffer whose last dimension holds four more elements",
        )
    return load(region.buffer, (*region.starts[:-1], start + const(step)))
