"""Where sums start and end: in place, or converted."""

from __future__ import annotations

from typing import Any

import pytest

from tilewright.dtypes import as_dtype
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, const, var
from tilewright.ir.printer import print_stmt
from tilewright.layout import Layout, tile_axes
from tilewright.ops.gemm.accumulator import accumulate_in
from tilewright.ops.gemm.partition import GemmWarpPolicy, choose_partition
from tilewright.ops.gemm.threads import RegisterTile, ThreadProduct
from tilewright.target.nvidia import SM_80

SPAN = Span("kernel.py", 1, 0, 1, 1)


def texts(m: int, n: int, c: str, clear: Expr) -> tuple[str, list[str], list[str]]:
    """The name of the sums, and what stands before and after a product of float16 on one warp."""
    half, dtype = as_dtype("float16"), as_dtype(c)
    plan = choose_partition(m, n, 16, half, half, dtype, 32, GemmWarpPolicy.Square, SM_80)
    tile = RegisterTile(Buffer("c", dtype, (plan.accumulator_layout.in_axis("reg").extent,), Scope.LOCAL, SPAN), plan.accumulator_layout)

    def local(name: str, wanted: Any, count: int) -> Buffer:
        return Buffer(name, wanted, (count,), Scope.LOCAL, SPAN)

    product = ThreadProduct(SPAN, plan, tile, tile, tile, False, False, clear, var("lane"), var("warp"), local)
    sums, before, after = accumulate_in(product)
    return sums.name, [print_stmt(s) for s in before], [print_stmt(s) for s in after]


def test_a_wide_accumulator_is_used_in_place() -> None:
    assert texts(16, 8, "float32", const(False)) == ("c", [], [])
    name, before, after = texts(16, 8, "float32", const(True))
    assert (name, len(before), after) == ("c", 1, []) and "c[r] = 0.0" in before[0]
    _, before, _ = texts(16, 8, "float32", var("flag", as_dtype("bool")))
    assert before[0].startswith("if flag")


def test_a_narrow_accumulator_is_converted_once_before_and_once_after() -> None:
    name, before, after = texts(16, 8, "bfloat16", const(False))
    assert name == "sums" and "sums[r] = cast(c[r], float32)" in before[0] and "c[r] = cast(sums[r], bfloat16)" in after[0]
    _, before, _ = texts(16, 8, "bfloat16", const(True))
    assert "c[r]" not in before[0]


def test_a_float16_accumulator_is_added_to_in_place() -> None:
    assert texts(16, 8, "float16", const(False)) == ("c", [], [])


def test_padding_starts_at_zero() -> None:
    _, before, _ = texts(12, 8, "float32", const(False))
    assert len(before) == 1 and ">= 12" in before[0]
    _, before, _ = texts(16, 6, "bfloat16", const(False))
    assert len(before) == 1 and ">= 6" in before[0]


def test_another_layout_is_a_fault_of_ours() -> None:
    half = as_dtype("float16")
    plan = choose_partition(16, 8, 16, half, half, half, 32, GemmWarpPolicy.Square, SM_80)
    tile = RegisterTile(Buffer("c", half, (4,), Scope.LOCAL, SPAN), Layout.identity(tile_axes((16, 8))))
    product = ThreadProduct(SPAN, plan, tile, tile, tile, False, False, const(True), const(0), const(0), lambda n, d, c: tile.buffer)
    with pytest.raises(CompilerBug, match="accumulator"):
        accumulate_in(product)
