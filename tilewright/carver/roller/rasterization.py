"""In which order the blocks of a grid run (floor 9): as they are numbered, or in panels that share operands in the last-level cache."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rasterization:
    """`panel_width` is what T.use_swizzle takes; 0 leaves the order as it is."""

    panel_width: int = 0


@dataclass(frozen=True)
class NoRasterization(Rasterization):
    """As the blocks are numbered."""


@dataclass(frozen=True)
class Rasterization2DRow(Rasterization):
    """In panels of rows: T.use_swizzle(panel_width, order="row")."""

    panel_width: int = 4


@dataclass(frozen=True)
class Rasterization2DColumn(Rasterization):
    """In panels of columns: T.use_swizzle(panel_width, order="column")."""

    panel_width: int = 4
