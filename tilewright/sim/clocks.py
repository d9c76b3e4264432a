"""Happens-before between the threads of a block (floor 7).

Every warp has a clock, which a barrier moves on; an access is marked with its thread and the clock of its warp. `seen[b, v, w]` is the last clock of
warp w whose accesses happen before what warp v does now. Threads of one warp see each other's accesses of earlier clocks, their own ones always.
Between two barriers of the whole block all of that is one number per row, which makes the common check one comparison.
"""

from __future__ import annotations

import numpy as np

from tilewright.execution.memory import Array
from tilewright.ir.stmt import WARP_THREADS
from tilewright.sim.rows import Rows
from tilewright.sim.word import CLOCK_SHIFT


class Clocks:
    """now     (rows,) the clock that marks an access of the row.
    limit      (rows,) words of the shadow memory below it lie before the row, whoever made them; others need a closer look.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        blocks, warps = rows.num_blocks, rows.warps
        self._tick = np.ones(blocks, np.int64)
        self._clock = np.ones((blocks, warps), np.int64)
        self.seen = np.zeros((blocks, warps, warps), np.int64)
        self.now = np.ones(rows.count, np.int64)
        self.limit = np.full(rows.count, 1 << CLOCK_SHIFT, np.int64)

    def block_barrier(self, blocks: Array) -> None:
        """All threads of these blocks have met."""
        self.seen[blocks] = self._tick[blocks][:, None, None]
        self._tick[blocks] += 1
        self._clock[blocks] = self._tick[blocks][:, None]
        now, limit = self.now.reshape(self._rows.num_blocks, -1), self.limit.reshape(self._rows.num_blocks, -1)
        now[blocks] = limit[blocks] = self._tick[blocks][:, None]
        limit[blocks] <<= CLOCK_SHIFT

    def barrier(self, block: int, warps: Array) -> None:
        """Some warps of a block have met."""
        self.seen[block, warps, warps] = self._clock[block, warps]
        self.seen[block, warps] = self.seen[block, warps].max(axis=0)
        self._advance(np.asarray([block]), [warps])

    def warp_barrier(self, warps: Array) -> None:
        """The threads of each of these warps (numbers over the batch) have met."""
        block, warp = np.divmod(warps, self._rows.warps)
        self.seen[block, warp, warp] = self._clock[block, warp]
        found = np.unique(block)
        self._advance(found, [warp[block == b] for b in found])

    def _advance(self, blocks: Array, warps: list[Array]) -> None:
        self._tick[blocks] += 1
        now, limit = (a.reshape(self._rows.num_blocks, self._rows.warps, WARP_THREADS) for a in (self.now, self.limit))
        for block, some in zip(blocks, warps, strict=True):
            self._clock[block, some] = self._tick[block]
            now[block, some] = self._tick[block]
            limit[block, some] = (self.seen[block, some].min(axis=-1)[:, None] + 1) << CLOCK_SHIFT

    def is_before(self, rows: Array, threads: Array, clocks: Array) -> Array:
        """Whether accesses of `threads` (of the same block each) at `clocks` happen before what `rows` do now."""
        r = self._rows
        return np.asarray((self.seen[r.block[rows], r.warp[rows], threads // WARP_THREADS] >= clocks) | (r.thread[rows] == threads))
