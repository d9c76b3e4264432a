"""Accesses to one SHARED or GLOBAL buffer (floor 7)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tilewright.execution.atomics import combine, rounds
from tilewright.execution.memory import Array
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.stmt import AtomicKind
from tilewright.sim.batch import Batch
from tilewright.sim.group import Group
from tilewright.sim.memory import ByteMemory
from tilewright.sim.registers import unset_element
from tilewright.sim.shadow import Clash, Conflict
from tilewright.sim.word import ATOMIC

BytesAt = tuple[Array | None, Array, Array | None]


class MemoryPort:
    """shape, strides    in elements.
    base_elements        where the buffer starts: in its block's shared memory, or in its global array.
    """

    def __init__(self, buffer: Buffer, shape: tuple[int, ...], strides: tuple[int, ...], base_elements: int) -> None:
        self.buffer, self.shape, self.strides, self.dtype = buffer, shape, strides, buffer.dtype
        self.element_bits = buffer.dtype.storage_bits
        self.base_elements = base_elements
        self._text = f"{buffer.dtype!s}[{', '.join(map(str, shape))}]"
        self._is_shared = buffer.scope is Scope.SHARED

    def bind(self, batch: Batch, memory: ByteMemory) -> None:
        self.batch, self.memory = batch, memory
        self._base: Any = self.base_elements
        if self._is_shared and batch.rows.num_blocks > 1:
            self._base = self.base_elements + batch.rows.block * (batch.shared_stride_bytes * 8 // self.element_bits)
        dtype = self.dtype.scalar.numpy
        self._typed = None if self.dtype.is_packed else memory.view(dtype)
        if self._typed is not None and self.dtype.lanes > 1:
            whole = self._typed.size - self._typed.size % self.dtype.lanes
            self._typed = self._typed[:whole].reshape(-1, self.dtype.lanes)

    # -- where
    def locate(self, site: int, group: Group, indices: tuple[Array, ...], count: int = 1) -> tuple[Array | None, Array]:
        """The rows of a group that access the buffer inside its bounds (None for all of the batch), and the element number (n,) of each in the memory;
        `count` elements of the last axis are accessed. Accesses outside are reported and left out."""
        rows = group.rows
        flat: Any = self._base if rows is None or isinstance(self._base, int) else self._base[rows]
        outside: Any = None
        last = len(indices) - 1
        for axis, (index, extent, stride) in enumerate(zip(indices, self.shape, self.strides, strict=True)):
            wide = index.astype(np.int64)
            if rows is not None and wide.ndim:
                wide = wide[rows]
            limit = extent if axis != last else extent - count + 1
            is_outside = wide.view(np.uint64) >= max(limit, 0)
            if is_outside.any():
                outside = is_outside if outside is None else outside | is_outside
            flat = flat + (wide if stride == 1 else wide * stride)
        if np.ndim(flat) == 0:
            flat = np.full(len(group), flat, np.int64)
        if outside is not None:
            outside = np.broadcast_to(outside, flat.shape)
            self._report_outside(site, group, indices, outside)
            numbers = group.row_numbers[~outside]
            return numbers, flat[~outside]
        return rows, flat

    def place_bytes(self, site: int, group: Group, indices: tuple[Array, ...], size_bytes: int) -> BytesAt:
        """Rows and byte offsets (n,) of accesses of `size_bytes`, and which of the group's rows they are (None for all)."""
        before = group.rows
        rows, elements = self.locate(site, group, indices, size_bytes * 8 // self.element_bits)
        offsets = elements * self.element_bits >> 3 if self.element_bits < 8 else elements * (self.element_bits >> 3)
        wrong = (offsets & (size_bytes - 1)) != 0
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            row = int(first if rows is None else rows[first])
            self.batch.report_misaligned(self.buffer, site, row, int(offsets[first]) - self._block_start(row), size_bytes)
            numbers = (np.arange(self.batch.rows.count) if rows is None else rows)[~wrong]
            rows, offsets = numbers, offsets[~wrong]
        if rows is before:
            return rows, offsets, None
        return rows, offsets, group.holds(rows)

    def element_of(self, cell: int) -> str:
        """A cell of the memory as an element of this buffer."""
        offset = cell * self.memory.cell_bytes
        if self._is_shared:
            offset %= self.batch.shared_stride_bytes
        element = offset * 8 // self.element_bits - self.base_elements
        if len(self.shape) > 1 and self.buffer.strides is None and element >= 0:
            place = []
            for extent in reversed(self.shape[1:]):
                element, inner = divmod(element, max(extent, 1))
                place.append(inner)
            return f"{self.buffer.name}[{', '.join(str(i) for i in (element, *reversed(place)))}]"
        return f"{self.buffer.name}[{element}]" if len(self.shape) == 1 else f"element {element} of {self.buffer.name}"

    def _block_start(self, row: int) -> int:
        return int(self.batch.rows.block[row]) * self.batch.shared_stride_bytes if self._is_shared else 0

    def _report_outside(self, site: int, group: Group, indices: tuple[Array, ...], outside: Array) -> None:
        row = int(group.row_numbers[int(np.flatnonzero(outside)[0])])
        position = ", ".join(str(int(i if i.ndim == 0 else i[row])) for i in indices)
        self.batch.report_out_of_bounds(self.buffer, site, row, position, self._text)

    # -- what the shadow and the counters are told
    def note_read(self, site: int, group: Group, rows: Array | None, offsets: Array, size_bytes: int, *, is_atomic: bool = False) -> Array | None:
        """Before reading for a statement of the group: gives (n, size) where nobody has written, and says so in `group.unset`."""
        if not group.is_again:
            self._count(site, rows, offsets, size_bytes)
        report = None if group.is_again else self.batch.reporter(self.buffer, site, self.element_of)
        unset = self.memory.note_read(offsets, size_bytes, rows, site, report, is_atomic=is_atomic)
        if unset is not None:
            first, byte = (int(i[0]) for i in np.nonzero(unset))
            row = first if rows is None else int(rows[first])
            place = self.element_of((int(offsets[first]) + byte) // self.memory.cell_bytes)
            group.unset = partial(self.batch.report_uninitialised, self.buffer, site, row, place)
        return unset

    def note_write(
        self,
        site: int,
        rows: Array | None,
        offsets: Array,
        values: Array,
        unset: Array | None = None,
        *,
        flags: int = 0,
        is_landing: bool = False,
        is_counted: bool = True,
    ) -> Callable[[], None]:
        """Before writing (n, size) bytes; what it gives must be called after them."""
        if is_counted:
            self._count(site, rows, offsets, values.shape[1])
        if unset is not None and not self._is_shared:
            first, _ = (int(i[0]) for i in np.nonzero(unset))
            row = first if rows is None else int(rows[first])
            self.batch.report_uninitialised(self.buffer, site, row, f"a value for {self.element_of(int(offsets[first]) // self.memory.cell_bytes)}")
        report = self.batch.reporter(self.buffer, site, self.element_of)
        twice = self.memory.note_write(offsets, values, rows, site, report, flags=flags, poison=unset, is_landing=is_landing)

        def after() -> None:
            if twice is not None and not flags & ATOMIC:
                self._check_twice(site, rows, offsets, values, twice)

        return after

    def _check_twice(self, site: int, rows: Array | None, offsets: Array, values: Array, twice: Array) -> None:
        """Several rows of one statement wrote a cell: harmless where they wrote the same."""
        at = np.flatnonzero(twice.any(axis=1))
        lost = at[(self.memory.get_unaligned(offsets[at], values.shape[1]) != values[at]).any(axis=1)]
        if not lost.size:
            return
        first = int(lost[0])
        row = first if rows is None else int(rows[first])

        cell = int(offsets[first]) // self.memory.cell_bytes + int(np.flatnonzero(twice[first])[0])
        assert self.memory.shadow is not None
        thread, grid_block = self.memory.shadow.last_writer(cell, row)
        self.batch.reporter(self.buffer, site, self.element_of)(Clash(Conflict.WRITE_AFTER_WRITE, cell, row, site, thread, grid_block))

    def _count(self, site: int, rows: Array | None, offsets: Array, size_bytes: int) -> None:
        traffic = self.batch.journal.traffic
        if traffic is not None:
            traffic.note(site, self.batch.journal.span(site), self.buffer.scope, self.buffer.name, rows, offsets, size_bytes)

    # -- single elements
    def load(self, site: int, group: Group, mask: Array | None, indices: tuple[Array, ...]) -> Array:
        """(rows,) elements, valid where the mask holds and the access lies inside."""
        inside = group if mask is group.mask else group.under(mask)
        rows, elements = self.locate(site, inside, indices)
        if not elements.size:
            return np.zeros((self.batch.rows.count, *((self.dtype.lanes,) if self.dtype.lanes > 1 else ())), self.dtype.numpy)
        unset = self.note_read(site, group, rows, elements * self.element_bits >> 3, self.dtype.itemsize, is_atomic=self.dtype.is_packed)
        found = self._get(elements)
        if unset is not None:
            found[unset.any(axis=1)] = unset_element(self.dtype, group.is_again)
        if rows is None:
            return found
        result = np.zeros((self.batch.rows.count, *found.shape[1:]), self.dtype.numpy)
        result[rows] = found
        return result

    def _get(self, elements: Array) -> Array:
        if self._typed is not None:
            return np.asarray(self._typed[elements])
        shift = (4 * (elements & 1)).astype(np.uint8)
        return np.asarray(((self.memory.data[elements >> 1] >> shift) & np.uint8(15)).view(self.dtype.numpy))

    def store(self, site: int, group: Group, indices: tuple[Array, ...], value: Array, unset: Array | None = None) -> None:
        """Writes one element per row of the group."""
        before = group.rows
        rows, elements = self.locate(site, group, indices)
        if not elements.size:
            return
        values = self._per_row(value, rows)
        if unset is not None and rows is not before:
            unset = unset[group.holds(rows)]
        offsets = elements * self.element_bits >> 3
        if self._typed is not None:
            raw = np.ascontiguousarray(values).view(np.uint8).reshape(elements.size, -1)
            after = self.note_write(site, rows, offsets, raw, unset)
            self._typed[elements] = values
            after()
            return
        self._store_nibbles(site, rows, elements, offsets, values, unset)

    def _store_nibbles(self, site: int, rows: Array | None, elements: Array, offsets: Array, values: Array, unset: Array | None) -> None:
        """Halves of bytes, which code for GPUs exchanges atomically: threads that access the two halves of one byte do not disturb each other.

        The shadow knows bytes only, so that of single 4-bit elements no more is told than two values for one element in one statement.
        """
        shift = (4 * (elements & 1)).astype(np.uint8)
        nibbles = (values.view(np.uint8) & np.uint8(15)) << shift
        wanted = (self.memory.data[offsets] & ~(np.uint8(15) << shift)) | nibbles
        self.note_write(site, rows, offsets, wanted[:, None], unset, flags=ATOMIC)
        data = self.memory.data
        np.bitwise_and.at(data, offsets, ~(np.uint8(15) << shift))
        np.bitwise_or.at(data, offsets, nibbles)
        lost = np.flatnonzero(((data[offsets] >> shift) & np.uint8(15)) != nibbles >> shift)
        if lost.size:
            first = int(lost[0])
            row = first if rows is None else int(rows[first])
            other = int(np.flatnonzero((elements == elements[first]) & (nibbles != nibbles[first]))[0])
            other_row = other if rows is None else int(rows[other])
            places = self.batch.rows
            cell = int(offsets[first]) // self.memory.cell_bytes
            clash = Clash(Conflict.WRITE_AFTER_WRITE, cell, row, site, int(places.thread[other_row]), int(places.grid_block[other_row]))
            self.batch.reporter(self.buffer, site, self.element_of)(clash)

    def _per_row(self, value: Array, rows: Array | None) -> Array:
        """A value as (n,) for these rows, or (n, lanes)."""
        lanes = self.dtype.lanes > 1
        if value.ndim > lanes:
            return value if rows is None else value[rows]
        count = self.batch.rows.count if rows is None else len(rows)
        return np.broadcast_to(value, (count, *value.shape))

    # -- atomics
    def update(self, site: int, group: Group, kind: AtomicKind, indices: tuple[Array, ...], value: Array) -> Array:
        """One atomic per row of the group, in a random order; gives what each found: (rows,)."""
        rows, elements = self.locate(site, group, indices)
        previous = np.zeros((self.batch.rows.count, *((self.dtype.lanes,) if self.dtype.lanes > 1 else ())), self.dtype.numpy)
        if not elements.size:
            return previous
        assert self._typed is not None
        values = self._per_row(value, rows)
        offsets, size_bytes = elements * self.element_bits >> 3, self.dtype.itemsize
        if kind is AtomicKind.LOAD:
            unset = self.note_read(site, group, rows, offsets, size_bytes, is_atomic=True)
        else:
            unset = self._note_update(site, group, rows, offsets, size_bytes, kind)
        if unset is not None and group.unset is not None:
            group.unset()
        order = self.batch.rng.permutation(elements.size)
        found = np.empty((elements.size, *previous.shape[1:]), self.dtype.numpy)
        for turn in rounds(elements[order]):
            which = order[turn]
            found[which] = self._typed[elements[which]]
            self._typed[elements[which]] = combine(kind, found[which], values[which], self.dtype)
        previous[slice(None) if rows is None else rows] = found
        return previous

    def _note_update(self, site: int, group: Group, rows: Array | None, offsets: Array, size_bytes: int, kind: AtomicKind) -> Array | None:
        unset = None if kind is AtomicKind.EXCHANGE else self.note_read(site, group, rows, offsets, size_bytes, is_atomic=True)
        changed = ~self.memory.get_unaligned(offsets, size_bytes)  # taken to change every byte
        self.note_write(site, rows, offsets, changed, flags=ATOMIC, is_counted=kind is AtomicKind.EXCHANGE)
        return unset
