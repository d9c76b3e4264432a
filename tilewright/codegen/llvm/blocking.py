"""How a matrix product is cut into micro-kernels (floor 6): column strips and row tiles that fit the vector registers.

A micro-kernel of `rows` x `vectors` holds rows * vectors sums. Per k it needs the smaller of a column of a (broadcast) and a row of b at
hand, and room for the operand that passes by.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.target.cpu import CpuTarget, Feature

# Strips of b as wide as this hide the latency of an addition even for a single row.
_MOST_VECTORS = 8
# Without a fused multiply-add products take registers of their own; with fewer to spare LLVM spills sums.
_SPARE_WITHOUT_FMA = 6


@dataclass(frozen=True, slots=True)
class Strip:
    """`count` column strips side by side, each of `columns` columns; the last vector of a strip may be partial."""

    first_column: int
    count: int
    columns: int


@dataclass(frozen=True, slots=True)
class RowGroup:
    """`count` row tiles below each other, each of `rows` rows."""

    first_row: int
    count: int
    rows: int


def is_fused(target: CpuTarget, dtype: DType) -> bool:
    """Whether a product is added in the same instruction."""
    return dtype.is_float and target.has(Feature.FMA)


def panel_columns(target: CpuTarget, dtype: DType) -> int:
    """The panel width that products with a second operand in panels read best."""
    return target.micro_tile.column_vectors * target.lanes(dtype.itemsize)


def split_columns(rows: int, columns: int, dtype: DType, target: CpuTarget, panel: int = 0) -> tuple[Strip, ...]:
    """Strips that cover the columns: as many as there are of the full width, then one for what is left.

    A product with few rows gets wider strips, to have enough independent sums under way: half of the registers, since with more of them in
    a few long rows LLVM spills. Panels of width `panel` never straddle a strip.
    """
    unit = target.micro_tile.column_vectors
    lanes = target.lanes(dtype.itemsize)
    if panel and (panel % lanes or unit * lanes % panel):
        raise CompilerBug(f"strips of {unit} vectors of {lanes} lanes cannot be read from panels of {panel} columns")
    most = min(_MOST_VECTORS, target.register_count // 2 // rows)
    width = max(most // unit, 1) * unit * lanes
    count, rest = divmod(columns, width)
    strips = (Strip(0, count, width), Strip(count * width, 1, rest))
    return tuple(strip for strip in strips if strip.count and strip.columns)


def split_rows(rows: int, vectors: int, dtype: DType, target: CpuTarget) -> tuple[RowGroup, ...]:
    """Row tiles for strips of that many vectors, as equal as can be: their sizes differ by one at most, the larger come first."""
    tile = target.micro_tile
    limit = tile.rows if vectors >= tile.column_vectors else tile.rows * 3 // 2  # more row addresses than that spill
    most = next((r for r in range(limit, 1, -1) if _fits(r, vectors, dtype, target)), 1)
    tiles = -(-rows // most)
    size, larger = divmod(rows, tiles)
    groups = (RowGroup(0, larger, size + 1), RowGroup(larger * (size + 1), tiles - larger, size))
    return tuple(group for group in groups if group.count)


def _fits(rows: int, vectors: int, dtype: DType, target: CpuTarget) -> bool:
    spare = target.register_count // 8 - 1  # the broadcast, and on large register files what LLVM schedules ahead
    if not is_fused(target, dtype):
        spare = max(spare, _SPARE_WITHOUT_FMA)
    return rows * vectors + min(rows, vectors) + spare <= target.register_count
