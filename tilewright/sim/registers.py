"""LOCAL arrays and variables: registers, one array element per row and element (floor 7)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from tilewright.dtypes import DType
from tilewright.execution.memory import Array, unpack_nibbles
from tilewright.ir.buffer import Buffer, Scope
from tilewright.sim.batch import Batch
from tilewright.sim.group import Group
from tilewright.sim.word import UNSET_BYTES


class RegisterFile:
    """The memory of one LOCAL or VARIABLE buffer and of its views, in every row.

    cells   what is initialised is known per as many bytes as the narrowest element has.
    """

    def __init__(self, root: Buffer, buffers: Iterable[Buffer]) -> None:
        self.root = root
        size_bytes = max(math.ceil(math.prod(b.static_shape) * b.dtype.storage_bits / 8) for b in buffers)
        self.size_bytes = -(-max(size_bytes, 1) // 16) * 16
        self.cell_bytes = min(b.dtype.scalar.itemsize for b in buffers)
        self.data: Array = np.empty((0, self.size_bytes), np.uint8)
        self.is_set: Array = np.empty((0, 0), bool)
        self.is_ready = bytearray()

    def bind(self, batch: Batch) -> None:
        """Fresh memory for the rows of a batch: variables are zero, arrays hold nothing."""
        self.batch = batch
        is_zero = self.root.scope is Scope.VARIABLE
        cells = self.size_bytes // self.cell_bytes
        self.data = np.full((batch.rows.count, self.size_bytes), 0 if is_zero else UNSET_BYTES[0], np.uint8)
        self.is_set = np.full((batch.rows.count, cells), is_zero or not batch.is_checked)
        self.is_ready = bytearray([is_zero or not batch.is_checked]) * cells  # set in every row

    # -- bytes of all rows of a group
    def get(self, group: Group, first_byte: int, size_bytes: int) -> tuple[Array, Array | None]:
        """(n, size) bytes of the group's rows, and where they are not set, or None."""
        rows = group.rows
        found = self.data[:, first_byte : first_byte + size_bytes]
        unset = self.unset(group, first_byte, size_bytes)
        return (np.ascontiguousarray(found) if rows is None else found[rows]), unset

    def unset(self, group: Group, first_byte: int, size_bytes: int) -> Array | None:
        """(n, size) where bytes of the group's rows hold nothing; None where all hold something."""
        first, last = first_byte // self.cell_bytes, -(-(first_byte + size_bytes) // self.cell_bytes)
        if self.is_ready.find(0, first, last) < 0:
            return None
        rows = group.rows
        unset = ~(self.is_set[:, first:last] if rows is None else self.is_set[rows, first:last])
        return np.repeat(unset, self.cell_bytes, axis=1) if unset.any() else None

    def put(self, group: Group, first_byte: int, values: Array, unset: Array | None = None) -> None:
        """Writes (n, size) bytes of the group's rows; `unset` where they hold nothing themselves."""
        rows, size_bytes = group.rows, values.shape[1]
        if rows is None:
            self.data[:, first_byte : first_byte + size_bytes] = values
        else:
            self.data[rows, first_byte : first_byte + size_bytes] = values
        self.mark(group, first_byte, size_bytes, unset)

    def mark(self, group: Group, first_byte: int, size_bytes: int, unset: Array | None = None) -> None:
        """Says that bytes of the group's rows were written."""
        first, last = first_byte // self.cell_bytes, -(-(first_byte + size_bytes) // self.cell_bytes)
        rows = group.rows
        if unset is None:
            if self.is_ready.find(0, first, last) < 0:
                return
            if rows is None:
                self.is_set[:, first:last] = True
                self.is_ready[first:last] = b"\1" * (last - first)
            else:
                self.is_set[rows, first:last] = True
                self._look(first, last)
        else:
            is_set = ~unset[:, :: self.cell_bytes]
            if rows is None:
                self.is_set[:, first:last] = is_set
            else:
                self.is_set[rows, first:last] = is_set
            self._look(first, last)

    def _look(self, first: int, last: int) -> None:
        is_set = self.is_set[:, first:last]
        if (exists := self.batch.rows.exists) is not None:
            is_set = is_set[exists]
        self.is_ready[first:last] = is_set.all(axis=0).astype(np.uint8).tobytes()


class RegisterPort:
    """Accesses to one LOCAL or VARIABLE buffer, which may be a view."""

    def __init__(self, buffer: Buffer, file: RegisterFile) -> None:
        self.buffer, self.file, self.dtype = buffer, file, buffer.dtype
        self.count = math.prod(buffer.static_shape)
        self.element_bits = buffer.dtype.storage_bits
        self._shape = f"{buffer.dtype!s}[{self.count}]"

    def bind(self, batch: Batch) -> None:
        self.batch = batch
        if not self.dtype.is_packed:
            typed = self.file.data.view(self.dtype.scalar.numpy)
            self._typed = typed.reshape(batch.rows.count, -1, self.dtype.lanes) if self.dtype.lanes > 1 else typed

    def element_of(self, cell: int) -> str:
        return f"element {cell * self.file.cell_bytes * 8 // self.element_bits} of {self.buffer.name}"

    # -- single elements
    def load(self, site: int, group: Group, mask: Array | None, indices: tuple[Array, ...]) -> Array:
        """(rows,) elements, valid where the mask holds."""
        index = indices[0]
        inside = group if mask is group.mask else group.under(mask)
        if index.ndim:
            return self._load_by_row(site, group, inside, index)
        at = int(index)
        if not 0 <= at < self.count:
            self._report_outside(site, inside, index)
            return np.zeros((), self.dtype.numpy)
        unset = self._unset_elements(inside, at, 1) if self._is_unready(at) else None
        if self.dtype.is_packed:
            found = np.asarray(((self.file.data[:, at >> 1] >> np.uint8(4 * (at & 1))) & np.uint8(15)).view(self.dtype.numpy))
        else:
            found = np.asarray(self._typed[:, at])
        if unset is not None:
            where = np.zeros(self.batch.rows.count, bool)
            where[inside.row_numbers] = unset.any(axis=1)
            found = self._met_unset(site, group, where, found, np.full(self.batch.rows.count, at))
        return found

    def _met_unset(self, site: int, group: Group, where: Array, found: Array, at: Array) -> Array:
        """`found` (rows,) with something else where nothing was written; `at` (rows,) are the elements."""
        row = int(np.flatnonzero(where)[0])
        place = f"element {int(at[row])} of {self.buffer.name}"
        group.unset = partial(self.batch.report_uninitialised, self.buffer, site, row, place)
        result = found.copy()
        result[where] = unset_element(self.dtype, group.is_again)
        return result

    def _is_unready(self, at: int) -> bool:
        bits, cell = self.element_bits, self.file.cell_bytes
        return self.file.is_ready.find(0, at * bits // 8 // cell, -(-(at + 1) * bits // (8 * cell))) >= 0

    def _unset_elements(self, group: Group, at: int, count: int) -> Array | None:
        """(n, bytes) of the group's rows where the elements are not set."""
        first = at * self.element_bits // 8
        return self.file.unset(group, first, -(-(at + count) * self.element_bits // 8) - first)

    def _load_by_row(self, site: int, group: Group, inside: Group, index: Array) -> Array:
        rows, count = inside.row_numbers, self.batch.rows.count
        at = index[rows].astype(np.int64)
        outside = (at < 0) | (at >= self.count)
        if outside.any():
            self._report_outside(site, inside, index)
            at = np.where(outside, 0, at)
        if self.dtype.is_packed:
            found = ((self.file.data[rows, at >> 1] >> (4 * (at & 1)).astype(np.uint8)) & np.uint8(15)).view(self.dtype.numpy)
        else:
            found = self._typed[rows, at]
        result = np.zeros((count, *found.shape[1:]), self.dtype.numpy)
        result[rows] = found
        cells = (at * self.element_bits // 8)[:, None] // self.file.cell_bytes
        cells = cells + np.arange(max(1, self.element_bits // 8 // self.file.cell_bytes))
        unset = (~self.file.is_set[rows[:, None], cells]).any(axis=1) & ~outside
        if unset.any():
            where, places = np.zeros(count, bool), np.zeros(count, np.int64)
            where[rows], places[rows] = unset, at
            result = self._met_unset(site, group, where, result, places)
        return result

    def store(self, site: int, group: Group, indices: tuple[Array, ...], value: Array, unset: Array | None = None) -> None:
        """Writes an element of the group's rows; `unset` (n, bytes) where the value holds nothing."""
        index, rows = indices[0], group.rows
        if index.ndim:
            numbers = group.row_numbers
            at = index[numbers].astype(np.int64)
            values = np.broadcast_to(value, (self.batch.rows.count, *value.shape[value.ndim - (self.dtype.lanes > 1) :]))[numbers]
            for each in np.unique(at):
                inside = group.among(numbers[at == each])
                self._store_column(site, inside, int(each), values[at == each])
            return
        per_row = value.ndim > (self.dtype.lanes > 1)
        self._store_column(site, group, int(index), value[rows] if per_row and rows is not None else value, unset)

    def _store_column(self, site: int, group: Group, at: int, values: Array, unset: Array | None = None) -> None:
        if not 0 <= at < self.count:
            self._report_outside(site, group, np.asarray(at))
            return
        rows = slice(None) if group.rows is None else group.rows
        if self.dtype.is_packed:
            shift, column = np.uint8(4 * (at & 1)), self.file.data[:, at >> 1]
            nibble = np.asarray(values).view(np.uint8) & np.uint8(15)
            column[rows] = (column[rows] & ~(np.uint8(15) << shift)) | (nibble << shift)
        else:
            self._typed[rows, at] = values
        first = at * self.element_bits // 8
        self.file.mark(group, first, -(-(at + 1) * self.element_bits // 8) - first, unset)

    # -- several elements
    def get_bytes(self, site: int, group: Group, offset: Array, count: int) -> tuple[Array, Array | None]:
        """(n, bytes) of `count` elements from `offset` on, and where nothing was written."""
        at = self.offset(site, group, offset, count)
        found, unset = self.file.get(group, at * self.element_bits // 8, -(-count * self.element_bits // 8))
        if unset is not None:
            row, byte = (int(i[0]) for i in np.nonzero(unset))
            place = f"element {at + byte * 8 // self.element_bits} of {self.buffer.name}"
            group.unset = partial(self.batch.report_uninitialised, self.buffer, site, int(group.row_numbers[row]), place)
        return found, unset

    def put_bytes(self, site: int, group: Group, offset: Array, count: int, values: Array, unset: Array | None = None) -> None:
        self.file.put(group, self.offset(site, group, offset, count) * self.element_bits // 8, values, unset)

    def offset(self, site: int, group: Group, offset: Array, count: int) -> int:
        """The register number that all rows agree on."""
        numbers = offset[group.row_numbers] if offset.ndim else offset
        at = int(numbers.flat[0]) if offset.ndim else int(offset)
        is_same = offset.ndim == 0 or bool((numbers == at).all())
        if not is_same or not 0 <= at <= self.count - count or at * self.element_bits % 8:
            self._report_outside(site, group, np.asarray(at + count - 1 if is_same else offset))
            return 0
        return at

    def as_elements(self, raw: Array, dtype: DType) -> Array:
        """(n, bytes) as (n, count) elements."""
        if dtype.is_packed:
            return unpack_nibbles(raw, dtype)
        return np.ascontiguousarray(raw).view(dtype.numpy)

    # -- reports
    def _report_outside(self, site: int, group: Group, index: Array) -> None:
        rows = group.row_numbers
        values = np.broadcast_to(index, (self.batch.rows.count,))[rows]
        wrong = (values < 0) | (values >= self.count)
        first = int(np.flatnonzero(wrong)[0]) if wrong.any() else 0
        self.batch.report_out_of_bounds(self.buffer, site, int(rows[first]), str(int(values[first])), self._shape)


def unset_element(dtype: DType, is_again: bool) -> Any:
    """What an element that nobody has written is taken to be."""
    if dtype.is_bool:
        return is_again
    octets = np.full(dtype.numpy.itemsize, UNSET_BYTES[is_again], np.uint8)
    return (octets & 15 if dtype.is_packed else octets).view(dtype.numpy)[0]
