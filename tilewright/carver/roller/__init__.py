"""Orders of blocks that hints ask for (floor 9)."""

from __future__ import annotations

from tilewright.carver.roller import rasterization

__all__ = ["rasterization"]
