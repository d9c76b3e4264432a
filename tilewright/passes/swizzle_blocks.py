"""T.use_swizzle (floor 5): blocks that run at the same time share rows and columns of their operands, so that these stay in the L2 cache.

The hardware numbers blocks with x fastest. Here the grid is cut into panels of `panel_size` rows, and each panel is walked column by column; with order
"column", panels are columns and are walked row by row. Every block keeps exactly one place, so results are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tilewright.ir.expr import Expr, Op, binary, const, logical, minimum, var
from tilewright.ir.program import Hint, HintKind, Launch, Program
from tilewright.ir.stmt import Assume, Let, Seq
from tilewright.passes.context import GpuPassContext

_ROW_ORDERS = ("row", "mlx")


def swizzle_blocks(program: Program, context: GpuPassContext) -> Program:
    """Renumbers the blocks of launches with at least two grid axes, each as its own last hint says, or else the last of the program."""
    return dataclasses.replace(program, launches=tuple(_swizzle(launch, (*program.hints, *launch.hints)) for launch in program.launches))


def _swizzle(launch: Launch, hints: Sequence[Hint]) -> Launch:
    wanted = [h.values for h in hints if h.kind is HintKind.SWIZZLE_BLOCKS]
    if len(launch.grid) < 2 or not wanted:
        return launch
    panel_size, order = wanted[-1]
    if not isinstance(panel_size, int) or panel_size < 2:
        return launch
    x, y = (var(v.name, v.dtype) for v in launch.block_variables[:2])
    swizzled = panel_coordinates(x, y, launch.grid[0], launch.grid[1], panel_size, order in _ROW_ORDERS)
    named = tuple(Let(launch.span, old, new) for old, new in zip(launch.block_variables[:2], swizzled, strict=True))
    # What the prover would have to find out about a quotient by the width of a panel.
    ranges = tuple(
        Assume(launch.span, logical(Op.AND, binary(Op.GE, v, const(0)), binary(Op.LT, v, n)))
        for v, n in zip(launch.block_variables[:2], launch.grid[:2], strict=True)
    )
    body = Seq(launch.span, (*named, *ranges, launch.body))
    return dataclasses.replace(launch, block_variables=(x, y, *launch.block_variables[2:]), body=body)


def panel_coordinates(x: Expr, y: Expr, columns: Expr, rows: Expr, panel_size: int, is_by_rows: bool) -> tuple[Expr, Expr]:
    """Where the block that the hardware calls (x, y) works."""
    number = x + y * columns
    along, across = (columns, rows) if is_by_rows else (rows, columns)
    panel = number // (along * panel_size)
    first = panel * panel_size
    width = minimum(across - first, panel_size)
    inside = number - panel * (along * panel_size)
    place_across, place_along = first + inside % width, inside // width
    return (place_along, place_across) if is_by_rows else (place_across, place_along)
