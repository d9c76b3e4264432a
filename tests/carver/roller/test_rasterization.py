"""Orders of blocks by their classes, as programs compare them."""

from __future__ import annotations

from tilewright.carver.roller.rasterization import NoRasterization, Rasterization2DColumn, Rasterization2DRow


def test_each_order_says_what_use_swizzle_takes() -> None:
    assert [plan.panel_width for plan in (NoRasterization(), Rasterization2DRow(), Rasterization2DColumn(10))] == [0, 4, 10]
    assert NoRasterization() == NoRasterization() != Rasterization2DRow(0) != Rasterization2DColumn(0)
    assert isinstance(NoRasterization(), NoRasterization) and not isinstance(Rasterization2DRow(), NoRasterization)
