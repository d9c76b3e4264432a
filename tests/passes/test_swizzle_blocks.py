"""Blocks renumbered for the L2 cache."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.arith.evaluate import evaluate
from tilewright.ir.expr import const, var
from tilewright.passes.swizzle_blocks import panel_coordinates


@pytest.mark.parametrize("is_by_rows", [True, False])
@pytest.mark.parametrize("columns, rows, panel", [(1, 1, 4), (7, 5, 2), (8, 16, 8), (3, 10, 4), (13, 3, 10)])
def test_every_block_keeps_one_place(columns: int, rows: int, panel: int, is_by_rows: bool) -> None:
    x, y = var("x"), var("y")
    at = panel_coordinates(x, y, const(columns), const(rows), panel, is_by_rows)
    grid = np.indices((rows, columns))
    new_x, new_y = (np.asarray(evaluate(e, {x: grid[1], y: grid[0]}, None)) for e in at)  # type: ignore[arg-type]
    assert new_x.min() >= 0 and new_x.max() < columns and new_y.min() >= 0 and new_y.max() < rows
    assert len({(int(a), int(b)) for a, b in zip(new_x.flat, new_y.flat, strict=True)}) == rows * columns


def test_a_panel_is_walked_down_its_columns() -> None:
    x, y = var("x"), var("y")
    at = panel_coordinates(x, y, const(4), const(4), 2, True)
    first = [tuple(int(evaluate(e, {x: np.asarray(n % 4), y: np.asarray(n // 4)}, None)) for e in at) for n in range(4)]  # type: ignore[arg-type]
    assert first == [(0, 0), (0, 1), (1, 0), (1, 1)]
