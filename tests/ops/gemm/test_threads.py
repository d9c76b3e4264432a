"""Loops that are written out."""

from __future__ import annotations

from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, const
from tilewright.ir.stmt import For, LoopKind, Stmt, Store
from tilewright.ops.gemm.threads import unrolled

SPAN = Span("kernel.py", 1, 0, 1, 1)
LOCAL = Buffer("values", const(0).dtype, (4,), Scope.LOCAL, SPAN)


def _store(i: Expr) -> Stmt:
    return Store(SPAN, LOCAL, (i,), i)


def test_one_turn_needs_no_loop() -> None:
    single = unrolled(SPAN, "i", 1, _store)
    assert isinstance(single, Store) and single.value is const(0)
    loop = unrolled(SPAN, "i", 4, _store)
    assert isinstance(loop, For) and loop.kind is LoopKind.UNROLLED and loop.extent is const(4)
