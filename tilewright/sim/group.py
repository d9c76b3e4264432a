"""Rows that run the same statement together (floor 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright.execution.memory import Array


class Group:
    """mask    (rows of the batch,) which rows run; None where all do.
    values     of variables, by slot: arrays of one value, or of one per row of the batch.
    constants  values that depend on the rows alone; shared by all groups of a batch.
    frames     of the open structures.
    place      the step that comes next.
    others     by slot, values that would be different if memory that nobody has written held something else, and what reports its use.
    unset      the last such memory that a load has met: a function that reports its use; None where none was met.
    is_again   whether expressions are evaluated a second time, to see whether such memory matters: what a load does is already written down.
    """

    __slots__ = ("_rows", "constants", "frames", "is_again", "is_known", "mask", "others", "place", "turns", "unset", "values")

    def __init__(self, mask: Array | None, values: list[Any], constants: list[Array], place: int = 0) -> None:
        self.values, self.constants, self.place = values, constants, place
        self.frames: list[list[Any]] = []
        self.others: dict[int, tuple[Any, Callable[[], None]]] = {}
        self.unset: Callable[[], None] | None = None
        self.is_again = False
        self.turns = 0
        self.set_mask(mask)

    def set_mask(self, mask: Array | None) -> None:
        self.mask, self.is_known = mask, False

    @property
    def rows(self) -> Array | None:
        """Numbers of the rows that run; None where all do."""
        if self.mask is None:
            return None
        if not self.is_known:
            self._rows, self.is_known = np.flatnonzero(self.mask), True
        return self._rows

    @property
    def row_numbers(self) -> Array:
        rows = self.rows
        return np.arange(self._count) if rows is None else rows

    @property
    def _count(self) -> int:
        return int(self.constants[0].shape[0])

    def holds(self, rows: Array | None) -> Array:
        """(n,) which of the group's rows are among `rows`, None for all rows of the batch."""
        return np.ones(len(self), bool) if rows is None else np.isin(self.row_numbers, rows)

    def under(self, mask: Array | None) -> Group:
        """The same rows, but only where a narrower mask holds."""
        inner = Group(mask, self.values, self.constants)
        inner.is_again = self.is_again
        return inner

    def among(self, numbers: Array) -> Group:
        """Only these rows."""
        mask = np.zeros(self._count, bool)
        mask[numbers] = True
        return self.under(mask)

    def __len__(self) -> int:
        rows = self.rows
        return self._count if rows is None else len(rows)
