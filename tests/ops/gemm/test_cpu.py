"""The CPU's lowering: where its operands lie. Results are compared in test_package.py, loops in tests/codegen/llvm/test_matrix.py."""

from __future__ import annotations

from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import const, var
from tilewright.ops.gemm.cpu import panel_stride, panel_tile_offset


def test_panels_lie_one_cache_line_apart_from_their_own_size() -> None:
    assert panel_stride(64, 32) == 64 * 32 + 16


def test_a_buffer_of_several_matrices_has_their_panels_one_after_the_other() -> None:
    span = Span("kernel.py", 1, 0, 1, 1)
    tiles = Buffer("tiles", const(0.0).dtype, (3, 2, 64, 32), Scope.SHARED, span)
    i = var("i")
    region = Region(tiles, (i, const(1), const(0), const(0)), (1, 1, 64, 32), (False, False, True, True), span)
    assert panel_tile_offset(region, 5000) is (i * 2 + 1) * 5000
