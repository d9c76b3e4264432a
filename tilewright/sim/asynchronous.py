"""Asynchronous copies: what they write lands as late as it may, at the wait for its group (floor 7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.execution.memory import Array
from tilewright.sim.group import Group
from tilewright.sim.ports import MemoryPort
from tilewright.sim.word import UNDER_WAY


@dataclass(frozen=True, eq=False)
class _Copy:
    """Copies of one statement under way: rows (n,), the number of each one's group, places in bytes, how many bytes are read (others become zero)."""

    site: int
    rows: Array
    number: Array
    destination: MemoryPort
    to: Array
    source: MemoryPort
    start: Array
    valid_bytes: Array | None
    size_bytes: int


class AsyncCopies:
    """The copies under way in a batch. Each row counts the groups that it has closed."""

    def __init__(self, num_rows: int) -> None:
        self._closed = np.zeros(num_rows, np.int64)
        self._open: list[_Copy] = []

    def start(
        self,
        site: int,
        group: Group,
        destination: tuple[MemoryPort, tuple[Array, ...]],
        source: tuple[MemoryPort, tuple[Array, ...]],
        size_bytes: int,
        valid_bytes: Array | None,
    ) -> None:
        """Every row of the group starts a copy of `size_bytes`; of the source only the first `valid_bytes` (n,) are read."""
        port, indices = destination
        count = len(group)
        rows, to, _ = port.place_bytes(site, group, indices, size_bytes)
        numbers = group.row_numbers if rows is None else rows
        given = np.full(count, size_bytes) if valid_bytes is None else valid_bytes
        starts = np.zeros(count, np.int64)
        is_fine = np.ones(count, bool) if rows is group.rows else np.isin(group.row_numbers, numbers)
        for valid in np.unique(given[given > 0]):
            which = given == valid
            asked = group if which.all() else group.among(group.row_numbers[which])
            self._read_source(site, asked, source, int(valid), size_bytes, starts, which, is_fine)
        kept = np.isin(numbers, group.row_numbers[is_fine]) if not is_fine.all() else slice(None)
        numbers, to = numbers[kept], to[kept]
        at = slice(None) if is_fine.all() else is_fine
        if not numbers.size:
            return
        changed = ~port.memory.get_unaligned(to, size_bytes)  # what it will be is not known yet
        rows = rows if is_fine.all() else numbers
        port.note_write(site, rows, to, changed, flags=UNDER_WAY)
        valid_given = None if valid_bytes is None else given[at]
        self._open.append(_Copy(site, numbers, self._closed[numbers], port, to, source[0], starts[at], valid_given, size_bytes))

    def _read_source(
        self,
        site: int,
        group: Group,
        source: tuple[MemoryPort, tuple[Array, ...]],
        valid: int,
        size_bytes: int,
        starts: Array,
        which: Array,
        is_fine: Array,
    ) -> None:
        port, indices = source
        if valid == size_bytes:
            rows, offsets, _ = port.place_bytes(site, group, indices, size_bytes)
        else:
            rows, elements = port.locate(site, group, indices, max(1, valid * 8 // port.element_bits))
            offsets = elements * port.element_bits >> 3
        port.note_read(site, group, rows, offsets, valid)
        asked = np.flatnonzero(which)
        if rows is group.rows:
            starts[asked] = offsets
        else:
            found = group.holds(rows)
            starts[asked[found]] = offsets
            is_fine[asked[~found]] = False

    def close_group(self, group: Group) -> None:
        """Every row of the group closes its group of copies."""
        if group.mask is None:
            self._closed += 1
        else:
            self._closed[group.rows] += 1

    def wait(self, group: Group, pending: int) -> None:
        """Every row of the group waits until at most `pending` of its youngest closed groups are under way."""
        if not self._open:
            return
        limit = self._closed - pending
        if group.mask is not None:
            limit = np.where(group.mask, limit, -1)
        left = []
        for copy in self._open:
            is_due = copy.number < limit[copy.rows]
            if is_due.all():
                self._land(copy)
            elif is_due.any():
                self._land(_select(copy, is_due))
                left.append(_select(copy, ~is_due))
            else:
                left.append(copy)
        self._open = left

    @staticmethod
    def _land(copy: _Copy) -> None:
        data = copy.source.memory.get(copy.start, copy.size_bytes) if copy.valid_bytes is None else _read_valid(copy)
        after = copy.destination.note_write(copy.site, copy.rows, copy.to, data, is_landing=True, is_counted=False)
        copy.destination.memory.put(copy.to, data)
        after()


def _read_valid(copy: _Copy) -> Array:
    assert copy.valid_bytes is not None
    memory, steps = copy.source.memory, np.arange(copy.size_bytes)
    is_read = steps < copy.valid_bytes[:, None]
    return np.where(is_read, memory.data[np.where(is_read, copy.start[:, None] + steps, 0)], np.uint8(0))


def _select(copy: _Copy, which: Array) -> _Copy:
    valid = None if copy.valid_bytes is None else copy.valid_bytes[which]
    parts = copy.rows[which], copy.number[which], copy.destination, copy.to[which], copy.source, copy.start[which], valid
    return _Copy(copy.site, *parts, copy.size_bytes)
