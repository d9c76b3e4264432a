"""Memory of a simulated run as bytes, with its shadow (floor 7)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.execution.memory import Array
from tilewright.ir.buffer import Scope
from tilewright.sim.shadow import BlockShadow, Report, Shadow

_PADDING_BYTES = 16


class ByteMemory:
    """Bytes at offsets from 0, of a shared memory (that of all blocks of a batch, one after the other) or of one global array.

    cell_bytes   what one cell of the shadow covers.
    """

    def __init__(self, scope: Scope, size_bytes: int, cell_bytes: int, fill: int = 0) -> None:
        self.scope, self.size_bytes, self.cell_bytes = scope, size_bytes, cell_bytes
        self.data = np.full(-(-max(size_bytes, 1) // _PADDING_BYTES) * _PADDING_BYTES, fill, np.uint8)
        self.shadow: Shadow | None = None
        self._views: dict[np.dtype[Any], Array] = {}

    @property
    def num_cells(self) -> int:
        return self.data.size // self.cell_bytes

    def view(self, dtype: np.dtype[Any]) -> Array:
        """All of it as elements."""
        found = self._views.get(dtype)
        if found is None:
            found = self._views[dtype] = self.data.view(dtype)
        return found

    def get(self, offsets: Array, size_bytes: int) -> Array:
        """(n, size_bytes) uint8 from byte offsets (n,), multiples of the size where that is a power of two up to 16."""
        if size_bytes in (1, 2, 4, 8):
            return self.view(np.dtype(f"u{size_bytes}"))[offsets // size_bytes].view(np.uint8).reshape(-1, size_bytes)
        if size_bytes == 16 and not (offsets & 15).any():
            return self.view(np.dtype(np.uint64)).reshape(-1, 2)[offsets >> 4].view(np.uint8)
        return self.data[offsets[:, None] + np.arange(size_bytes)]

    def put(self, offsets: Array, values: Array) -> None:
        """Writes (n, size) uint8; the last row stays where several have one offset."""
        size_bytes = values.shape[1]
        values = np.ascontiguousarray(values)
        if size_bytes in (1, 2, 4, 8):
            self.view(np.dtype(f"u{size_bytes}"))[offsets // size_bytes] = values.view(f"u{size_bytes}")[:, 0]
        elif size_bytes == 16 and not (offsets & 15).any():
            self.view(np.dtype(np.uint64)).reshape(-1, 2)[offsets >> 4] = values.view(np.uint64)
        else:
            self.data[offsets[:, None] + np.arange(size_bytes)] = values

    def cells(self, offsets: Array, size_bytes: int) -> Array:
        """(n, k) numbers of the cells that an access of this size touches."""
        first = offsets // self.cell_bytes
        count = -(-size_bytes // self.cell_bytes)
        return first[:, None] if count == 1 else first[:, None] + np.arange(count)

    def note_read(self, offsets: Array, size_bytes: int, rows: Array | None, statement: int, report: Report | None, *, is_atomic: bool = False) -> Array | None:
        """(n, size_bytes) where a byte was never written, None where all were. Without `report` that is all that it does."""
        if self.shadow is None:
            return None
        cells = self.cells(offsets, size_bytes)
        poisoned = self.shadow.unwritten(cells) if report is None else self.shadow.read(cells, rows, statement, report, is_atomic=is_atomic)
        return None if poisoned is None else self._by_byte(poisoned, size_bytes)

    def mark_unset(self, offsets: Array, where: Array) -> None:
        """Says that bytes (n, size), which were just written, hold nothing."""
        if isinstance(self.shadow, BlockShadow):
            self.shadow.poison(self.cells(offsets, where.shape[1]), self._by_cell(where))

    def _by_byte(self, by_cell: Array, size_bytes: int) -> Array:
        return np.repeat(by_cell, self.cell_bytes, axis=1)[:, :size_bytes]

    def note_write(
        self,
        offsets: Array,
        values: Array,
        rows: Array | None,
        statement: int,
        report: Report,
        *,
        flags: int = 0,
        poison: Array | None = None,
        is_landing: bool = False,
    ) -> Array | None:
        """Says to the shadow that (n, size) bytes are written; call before `put`. `poison` is per byte. Gives the cells written by several rows."""
        if self.shadow is None:
            return None
        size_bytes = values.shape[1]

        def is_change() -> Array:
            return self._by_cell(self.get_unaligned(offsets, size_bytes) != values)

        cells = self.cells(offsets, size_bytes)
        marked = None if poison is None else self._by_cell(poison)
        return self.shadow.write(cells, rows, statement, report, is_change, flags=flags, poison=marked, is_landing=is_landing)

    def get_unaligned(self, offsets: Array, size_bytes: int) -> Array:
        """`get` without the rule of alignment."""
        return self.data[offsets[:, None] + np.arange(size_bytes)]

    def _by_cell(self, by_byte: Array) -> Array:
        """(n, bytes) to (n, cells): where any byte holds."""
        n, size_bytes = by_byte.shape
        if size_bytes <= self.cell_bytes:
            return np.asarray(by_byte.any(axis=1))[:, None]
        return np.asarray(by_byte.reshape(n, -1, self.cell_bytes).any(axis=2))
