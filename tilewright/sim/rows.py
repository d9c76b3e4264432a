"""The threads that run at once, as rows of arrays (floor 7).

A batch is some blocks of a grid. Each block has its threads in consecutive rows, filled up to whole warps, so that rows reshape to (warps, 32).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.execution.memory import Array
from tilewright.ir.stmt import WARP_THREADS


@dataclass(frozen=True, eq=False)
class Rows:
    """count              rows, a multiple of 32.
    threads, warps        of one block.
    block, grid_block     (count,) the row's block, as number in the batch and in the grid.
    thread, warp, lane    (count,) in the block, in the block, in the warp.
    exists                (count,) False on the rows that fill up the last warp; None where there are none.
    """

    count: int
    num_blocks: int
    threads: int
    warps: int
    block: Array
    grid_block: Array
    thread: Array
    warp: Array
    lane: Array
    exists: Array | None

    @staticmethod
    def of(blocks: Array, threads: int) -> Rows:
        """Rows for these blocks (flat numbers in the grid)."""
        warps = -(-threads // WARP_THREADS)
        per_block = warps * WARP_THREADS
        count = per_block * len(blocks)
        block = np.repeat(np.arange(len(blocks)), per_block)
        thread = np.tile(np.arange(per_block), len(blocks))
        exists = None if per_block == threads else thread < threads
        warp, lane = np.divmod(thread, WARP_THREADS)
        return Rows(count, len(blocks), threads, warps, block, np.asarray(blocks, np.int64)[block], thread, warp, lane, exists)
