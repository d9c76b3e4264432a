"""What lowering a product to threads is given (floor 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tilewright.dtypes import DType
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, const, var
from tilewright.ir.stmt import For, LoopKind, Stmt
from tilewright.layout import Layout, MemoryLayout
from tilewright.ops.gemm.partition import GemmPlan


@dataclass(frozen=True, eq=False)
class SharedTile:
    """A matrix in shared memory: element (r, c) is `buffer[memory(starts + (…, r, c))]`.

    buffer   SHARED, one axis.
    memory   d0, d1, … -> element; the matrix lies along the last two axes.
    starts   one index for each axis.
    """

    buffer: Buffer
    memory: MemoryLayout
    starts: tuple[Expr, ...]


@dataclass(frozen=True, eq=False)
class RegisterTile:
    """A matrix in registers: LOCAL array `buffer`, (reg, lane, warp) -> d0, d1."""

    buffer: Buffer
    layout: Layout


@dataclass(frozen=True, eq=False)
class ThreadProduct:
    """c = a @ b + (0 if clear else c), to be done by the threads of a block.

    a, b are as stored: (m, k) or (k, m) where transposed, (k, n) or (n, k). In registers they have the plan's layout.
    lane, warp   int32 expressions of the running thread.
    registers    makes a LOCAL array: name, dtype, elements.
    """

    span: Span
    plan: GemmPlan
    a: SharedTile | RegisterTile
    b: SharedTile | RegisterTile
    c: RegisterTile
    transpose_a: bool
    transpose_b: bool
    clear: Expr
    lane: Expr
    warp: Expr
    registers: Callable[[str, DType, int], Buffer]


def unrolled(span: Span, name: str, count: int, body: Callable[[Expr], Stmt]) -> Stmt:
    """body(0), body(1), … as an unrolled loop; without a loop where there is one turn."""
    if count == 1:
        return body(const(0))
    index = var(name)
    return For(span, index, const(count), LoopKind.UNROLLED, body(index))
