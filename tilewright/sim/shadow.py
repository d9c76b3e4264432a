"""Who accessed each piece of memory last, and whether the next access comes after it (floor 7).

A cell is as many bytes as the narrowest element that lies in the memory. Two accesses of a cell by different threads, one of which writes, race unless
barriers order them or both are atomic. Writing the value that is there already harms nobody. What an asynchronous copy will write belongs to nobody
until the thread that started it has waited for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from tilewright.execution.memory import Array
from tilewright.sim.clocks import Clocks
from tilewright.sim.rows import Rows
from tilewright.sim.word import (
    ATOMIC,
    CLOCK_MASK,
    CLOCK_SHIFT,
    MANY_LANES,
    STATEMENT_MASK,
    STATEMENT_SHIFT,
    THREAD_MASK,
    UNDER_WAY,
    UNINITIALISED,
)


class Conflict(Enum):
    """How two accesses are in each other's way; the value says what the later one does."""

    READ_AFTER_WRITE = "reads"
    WRITE_AFTER_WRITE = "writes"
    WRITE_AFTER_READ = "overwrites"
    READ_UNDER_WAY = "reads before its wait"
    WRITE_UNDER_WAY = "writes before its wait"


@dataclass(frozen=True)
class Clash:
    """The first of some conflicts of one access: its cell, its row, and the earlier access (statement, thread in its block, block in the grid)."""

    conflict: Conflict
    cell: int
    row: int
    statement: int
    thread: int
    grid_block: int
    is_many: bool = False  # `thread` stands for several lanes of its warp


Report = Callable[[Clash], None]


class BlockShadow:
    """The shadow of memory that one block sees: cells of a block are accessed by its rows only.

    Reads are kept per warp, as the last one's clock with its lane, or with MANY_LANES.
    """

    def __init__(self, num_cells: int, rows: Rows, clocks: Clocks) -> None:
        self._rows, self._clocks = rows, clocks
        self._writer = np.full(num_cells, UNINITIALISED, np.int64)
        self._reader = np.zeros((num_cells, rows.warps), np.int64)

    def read(self, cells: Array, rows: Array | None, statement: int, report: Report, *, is_atomic: bool = False) -> Array | None:
        """Rows read cells (n, k); gives where they were never written, None where all were."""
        limit = self._clocks.limit if rows is None else self._clocks.limit[rows]
        words = self._writer[cells]
        poisoned: Array | None = None
        if (words >= limit[:, None]).any():
            poisoned = self._look_closer(cells, words, rows, report, is_atomic)
        if not is_atomic:
            self._note_reads(cells, rows, statement)
        return poisoned

    def unwritten(self, cells: Array) -> Array | None:
        """Where cells hold nothing; None where all hold something."""
        is_poison = (self._writer[cells] & UNINITIALISED) != 0
        return is_poison if is_poison.any() else None

    def poison(self, cells: Array, where: Array) -> None:
        """Says that cells hold nothing, though they were written."""
        self._writer[cells[where]] |= UNINITIALISED

    def _look_closer(self, cells: Array, words: Array, rows: Array | None, report: Report, is_atomic: bool) -> Array | None:
        limit = self._clocks.limit if rows is None else self._clocks.limit[rows]
        is_poison = (words & UNINITIALISED) != 0
        is_pending = (words & UNDER_WAY) != 0
        if is_pending.any():
            self._report(report, Conflict.READ_UNDER_WAY, is_pending, cells, words, rows)
        is_candidate = ((words & ~UNINITIALISED) >= limit[:, None]) & ~is_pending
        if is_atomic:
            is_candidate &= (words & ATOMIC) == 0
        if is_candidate.any():
            at, _ = np.nonzero(is_candidate)
            is_candidate[is_candidate] = ~self._is_before(at if rows is None else rows[at], words[is_candidate])
            if is_candidate.any():
                self._report(report, Conflict.READ_AFTER_WRITE, is_candidate, cells, words, rows)
        return is_poison if is_poison.any() else None

    def _note_reads(self, cells: Array, rows: Array | None, statement: int) -> None:
        r = self._rows
        now, lane, warp = (a if rows is None else a[rows] for a in (self._clocks.now, r.lane, r.warp))
        mine = ((now << CLOCK_SHIFT) | (statement << STATEMENT_SHIFT) | lane)[:, None]
        flat = self._reader.reshape(-1)
        places = cells * r.warps + warp[:, None]
        old = flat[places]
        is_shared = ((old >> CLOCK_SHIFT) == now[:, None]) & ((old & THREAD_MASK) != lane[:, None])
        new = np.where(is_shared, (mine & ~THREAD_MASK) | MANY_LANES, mine)
        flat[places] = new
        is_lost = flat[places] != new  # several lanes of a warp read the cell in this access
        if is_lost.any():
            flat[places[is_lost]] = (np.broadcast_to(mine, new.shape)[is_lost] & ~THREAD_MASK) | MANY_LANES

    def write(
        self,
        cells: Array,
        rows: Array | None,
        statement: int,
        report: Report,
        is_change: Callable[[], Array],
        *,
        flags: int = 0,
        poison: Array | None = None,
        is_landing: bool = False,
    ) -> Array | None:
        """Rows are about to write cells (n, k).

        is_change   (n, k) where the bytes differ from what is there; asked for only where it matters.
        flags       ATOMIC or UNDER_WAY.
        poison      (n, k) where what is written was itself never initialised.
        is_landing  the end of an asynchronous copy, whose beginning was checked.
        Gives the cells that another row of the same access writes as well, as a mask; None where there are none.
        """
        r, clocks = self._rows, self._clocks
        now, thread = (a if rows is None else a[rows] for a in (clocks.now, r.thread))
        if not is_landing:
            limit = (clocks.limit if rows is None else clocks.limit[rows])[:, None]
            words = self._writer[cells]
            if (words >= limit).any():
                self._check_writers(cells, words, rows, report, is_change, flags)
            readers = self._reader[cells]
            if (readers >= limit[..., None]).any():
                self._check_readers(cells, readers, rows, report, is_change)
        mine = ((now << CLOCK_SHIFT) | (statement << STATEMENT_SHIFT) | thread | flags)[:, None]
        new = np.broadcast_to(mine, cells.shape) if poison is None else np.where(poison, mine | UNINITIALISED, mine)
        self._writer[cells] = new
        is_lost = self._writer[cells] != new
        return is_lost if is_lost.any() else None

    def last_writer(self, cell: int, row: int) -> tuple[int, int]:
        """The thread that wrote a cell last, and the number of its block in the grid; `row` accesses it too."""
        return int(self._writer[cell]) & THREAD_MASK, int(self._rows.grid_block[row])

    def _check_writers(self, cells: Array, words: Array, rows: Array | None, report: Report, is_change: Callable[[], Array], flags: int) -> None:
        limit = (self._clocks.limit if rows is None else self._clocks.limit[rows])[:, None]
        is_pending = (words & UNDER_WAY) != 0
        if is_pending.any():
            self._report(report, Conflict.WRITE_UNDER_WAY, is_pending, cells, words, rows)
        is_candidate = ((words & ~UNINITIALISED) >= limit) & ~is_pending
        if flags & ATOMIC:
            is_candidate &= (words & ATOMIC) == 0
        if not is_candidate.any():
            return
        at, _ = np.nonzero(is_candidate)
        is_candidate[is_candidate] = ~self._is_before(at if rows is None else rows[at], words[is_candidate])
        if is_candidate.any():
            is_candidate &= is_change()
            if is_candidate.any():
                self._report(report, Conflict.WRITE_AFTER_WRITE, is_candidate, cells, words, rows)

    def _check_readers(self, cells: Array, readers: Array, rows: Array | None, report: Report, is_change: Callable[[], Array]) -> None:
        """readers (n, k, warps)."""
        r = self._rows
        limit = (self._clocks.limit if rows is None else self._clocks.limit[rows])[:, None, None]
        at, cell, warp = np.nonzero(readers >= limit)
        row, word = (at if rows is None else rows[at]), readers[at, cell, warp]
        clock, lane = word >> CLOCK_SHIFT, word & THREAD_MASK
        is_own = (warp == r.warp[row]) & (lane == r.lane[row])
        is_before = self._clocks.seen[r.block[row], r.warp[row], warp] >= clock
        is_bad = ~is_own & ~is_before
        if is_bad.any():
            is_bad &= is_change()[at, cell]
        if is_bad.any():
            n = int(np.flatnonzero(is_bad)[0])
            thread = int(warp[n]) * 32 + (0 if lane[n] == MANY_LANES else int(lane[n]))
            statement = int(word[n] >> STATEMENT_SHIFT) & STATEMENT_MASK
            place = int(cells[at[n], cell[n]])
            report(Clash(Conflict.WRITE_AFTER_READ, place, int(row[n]), statement, thread, int(r.grid_block[row[n]]), bool(lane[n] == MANY_LANES)))

    def _is_before(self, rows: Array, words: Array) -> Array:
        return self._clocks.is_before(rows, words & THREAD_MASK, (words >> CLOCK_SHIFT) & CLOCK_MASK)

    def _report(self, report: Report, conflict: Conflict, where: Array, cells: Array, words: Array, rows: Array | None) -> None:
        at, cell = (int(i[0]) for i in np.nonzero(where))
        row, word = (at if rows is None else int(rows[at])), int(words[at, cell])
        report(Clash(conflict, int(cells[at, cell]), row, (word >> STATEMENT_SHIFT) & STATEMENT_MASK, word & THREAD_MASK, int(self._rows.grid_block[row])))


class GridShadow:
    """The shadow of memory that all blocks see. Blocks are never ordered among each other, whatever the order in which they happen to run.

    Of the reads since the last write it keeps the last one, and the last one of another thread.
    """

    def __init__(self, num_cells: int, is_read: bool) -> None:
        self._writer = np.zeros(num_cells, np.int64)
        self._writer_block = np.full(num_cells, -1, np.int32)
        self._readers = [(np.zeros(num_cells, np.int64), np.full(num_cells, -1, np.int32)) for _ in range(2)] if is_read else []

    def enter(self, rows: Rows, clocks: Clocks) -> None:
        """The next accesses are those of a new batch."""
        self._rows, self._clocks = rows, clocks

    def forget(self) -> None:
        """Everything so far happens before everything to come: a launch has ended, or the whole grid has met."""
        self._writer[:], self._writer_block[:] = 0, -1
        for words, blocks in self._readers:
            words[:], blocks[:] = 0, -1

    def unwritten(self, cells: Array) -> Array | None:
        """Global memory counts as written."""
        return None

    def read(self, cells: Array, rows: Array | None, statement: int, report: Report, *, is_atomic: bool = False) -> Array | None:
        """As `BlockShadow.read`; all of it counts as written."""
        words, blocks = self._writer[cells], self._writer_block[cells]
        is_bad = self._unordered(words, blocks, rows)
        if is_atomic:
            is_bad &= (words & ATOMIC) == 0
        if is_bad.any():
            self._report(report, Conflict.READ_AFTER_WRITE, is_bad, cells, words, blocks, rows)
        if self._readers and not is_atomic:
            r = self._rows
            now, thread, block = (a if rows is None else a[rows] for a in (self._clocks.now, r.thread, r.grid_block))
            (last, last_block), (other, other_block) = self._readers
            mine = np.broadcast_to(((now << CLOCK_SHIFT) | (statement << STATEMENT_SHIFT) | thread)[:, None], cells.shape)
            old, old_block = last[cells], last_block[cells]
            is_other = ((old & THREAD_MASK) != (mine & THREAD_MASK)) | (old_block != block[:, None])
            is_other &= old_block >= 0
            other[cells[is_other]], other_block[cells[is_other]] = old[is_other], old_block[is_other]
            last[cells], last_block[cells] = mine, np.broadcast_to(block[:, None], cells.shape)
            is_lost = (last[cells] != mine) | (last_block[cells] != block[:, None])
            if is_lost.any():
                other[cells[is_lost]], other_block[cells[is_lost]] = mine[is_lost], np.broadcast_to(block[:, None], cells.shape)[is_lost]
        return None

    def write(
        self,
        cells: Array,
        rows: Array | None,
        statement: int,
        report: Report,
        is_change: Callable[[], Array],
        *,
        flags: int = 0,
        poison: Array | None = None,
        is_landing: bool = False,
    ) -> Array | None:
        """As `BlockShadow.write`."""
        r = self._rows
        now, thread, block = (a if rows is None else a[rows] for a in (self._clocks.now, r.thread, r.grid_block))
        words, blocks = self._writer[cells], self._writer_block[cells]
        is_bad = self._unordered(words, blocks, rows)
        if flags & ATOMIC:
            is_bad &= (words & ATOMIC) == 0
        if is_bad.any():
            is_bad &= is_change()
            if is_bad.any():
                self._report(report, Conflict.WRITE_AFTER_WRITE, is_bad, cells, words, blocks, rows)
        for kept, kept_block in self._readers:
            words, blocks = kept[cells], kept_block[cells]
            is_bad = self._unordered(words, blocks, rows)
            if is_bad.any():
                is_bad &= is_change()
                if is_bad.any():
                    self._report(report, Conflict.WRITE_AFTER_READ, is_bad, cells, words, blocks, rows)
        mine = np.broadcast_to(((now << CLOCK_SHIFT) | (statement << STATEMENT_SHIFT) | thread | flags)[:, None], cells.shape)
        self._writer[cells], self._writer_block[cells] = mine, np.broadcast_to(block[:, None], cells.shape)
        is_lost = (self._writer[cells] != mine) | (self._writer_block[cells] != block[:, None])
        return is_lost if is_lost.any() else None

    def last_writer(self, cell: int, row: int) -> tuple[int, int]:
        """As `BlockShadow.last_writer`."""
        return int(self._writer[cell]) & THREAD_MASK, int(self._writer_block[cell])

    def _unordered(self, words: Array, blocks: Array, rows: Array | None) -> Array:
        """Where an earlier access does not happen before what the rows do now."""
        own = (self._rows.grid_block if rows is None else self._rows.grid_block[rows])[:, None]
        limit = (self._clocks.limit if rows is None else self._clocks.limit[rows])[:, None]
        is_own = blocks == own
        is_bad = (blocks >= 0) & (~is_own | (words >= limit))
        is_close = is_bad & is_own
        if is_close.any():
            at, _ = np.nonzero(is_close)
            close = words[is_close]
            is_bad[is_close] = ~self._clocks.is_before(at if rows is None else rows[at], close & THREAD_MASK, (close >> CLOCK_SHIFT) & CLOCK_MASK)
        return np.asarray(is_bad)

    def _report(self, report: Report, conflict: Conflict, where: Array, cells: Array, words: Array, blocks: Array, rows: Array | None) -> None:
        at, cell = (int(i[0]) for i in np.nonzero(where))
        word = int(words[at, cell])
        report(
            Clash(
                conflict,
                int(cells[at, cell]),
                at if rows is None else int(rows[at]),
                (word >> STATEMENT_SHIFT) & STATEMENT_MASK,
                word & THREAD_MASK,
                int(blocks[at, cell]),
            )
        )


Shadow = BlockShadow | GridShadow
