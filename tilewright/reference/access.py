"""Element accesses of a reference run, for many lanes at once: the bounds rule, per-lane copies, atomics, races (floor 7).

A lane is one iteration of the open parallel loops. Lane arrays broadcast against the lane shape from the right; the axes of an inner loop
come first, so what was computed outside it keeps its shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tilewright.errors import Kind, Label, Span, fail
from tilewright.execution.atomics import combine, rounds
from tilewright.execution.memory import Array, Memory, Storage, bits
from tilewright.ir.buffer import Buffer, Scope, format_shape
from tilewright.ir.stmt import AtomicKind
from tilewright.reference.races import RaceDetector

_PRIVATE = frozenset({Scope.LOCAL, Scope.VARIABLE})


class ElementAccess:
    """Loads, stores and atomics of single elements.

    shape   extents of the open parallel loops, () outside of them.
    span    the statement that runs, for diagnostics.
    """

    def __init__(self, memory: Memory, races: RaceDetector | None, safe_value: Callable[[Buffer], Any]) -> None:
        self.memory, self.races, self.safe_value = memory, races, safe_value
        self.shape: tuple[int, ...] = ()
        self.is_in_threads = False  # the lanes are the threads of a block
        self.span: Span = Span("<program>", 1)
        # Root buffers that the open parallel loops write: lanes first, then the flat elements, and how many lane axes there are.
        self._private: dict[Buffer, tuple[Array, int]] = {}

    # -- per-lane copies
    def spread(self, shape: tuple[int, ...], written: Iterable[Buffer]) -> dict[Buffer, tuple[Array, int]]:
        """Enters a parallel loop: every lane of the new shape has its own copy of the variables that it writes. Gives what `unite` takes."""
        before = dict(self._private)
        self.shape = shape
        for root in written:
            if root.scope in _PRIVATE:
                old, rank = self._private.get(root) or (self.memory.storage(root).elements(root.dtype), 0)
                old = old.reshape((1,) * (len(shape) - rank) + old.shape)
                self._private[root] = np.array(np.broadcast_to(old, shape + old.shape[-1:])), len(shape)
        return before

    def unite(self, shape: tuple[int, ...], before: dict[Buffer, tuple[Array, int]]) -> None:
        """Leaves a parallel loop: what its lanes wrote into variables has no value afterwards."""
        for root, (array, _) in self._private.items():
            if root not in before:
                self.memory.storage(root).elements(root.dtype)[...] = self.memory.initial(root.dtype)
            elif before[root][0] is not array:
                before[root][0][...] = self.memory.initial(root.dtype)
        self.shape, self._private = shape, before

    def leave_lanes(self) -> None:
        """No loop is open any more, and what the lanes had of their own is gone."""
        self.shape, self._private = (), {}

    @contextmanager
    def collapsed(self, roots: Iterable[Buffer], lane: int | None, check: Callable[[Array, str], None]) -> Iterator[None]:
        """No lanes inside: root buffers that every lane has for itself are those of one lane, whose changes it keeps, or the same on all lanes.

        check   raises where the copies of a buffer, one per row, differ.
        """
        shape, private = self.shape, self._private
        copies = {root: private[root][0].reshape(-1, private[root][0].shape[-1]) for root in roots if root in private}
        for root, rows in copies.items():
            if lane is None:
                check(rows, root.name)
            self.memory.storage(root).elements(root.dtype)[...] = rows[lane or 0]
        self.shape, self._private, self.is_in_threads = (), {}, False
        try:
            yield
        finally:
            for root, rows in copies.items():
                found = self.memory.storage(root).elements(root.dtype)
                if lane is not None:
                    rows[lane] = found
                else:
                    rows[...] = found
            self.shape, self._private, self.is_in_threads = shape, private, True

    def lane_copy(self, buffer: Buffer, lane: tuple[int, ...]) -> Array:
        """A buffer as one lane sees it."""
        array, rank = self._array(buffer)
        return np.asarray(array[lane[len(lane) - rank :]])

    def _array(self, buffer: Buffer) -> tuple[Array, int]:
        """The buffer's elements behind its lane axes, and how many of those there are."""
        private = self._private.get(buffer.storage)
        if private is None:
            return self.memory.array(buffer, self.span), 0
        array, rank = private
        lanes = (buffer.dtype.lanes,) if buffer.dtype.lanes > 1 else ()
        elements = Storage(buffer.storage.dtype, array).elements(buffer.dtype)
        needed = buffer.static_shape + lanes
        return elements[..., : math.prod(needed)].reshape(array.shape[:rank] + needed), rank

    # -- loads
    def load(self, buffer: Buffer, indices: tuple[Array, ...], mask: Array) -> Array:
        """The elements where the mask holds; outside a global buffer its safe value."""
        array, rank = self._array(buffer)
        extents = array.shape[rank : rank + buffer.rank]
        inside = _inside(indices, extents)
        if inside is not None:
            wrong = mask & ~inside
            if wrong.any() and buffer.scope is not Scope.GLOBAL:
                self._refuse(buffer, indices, wrong)
            if not inside.any():
                return np.broadcast_to(self.safe_value(buffer), inside.shape + array.shape[rank + buffer.rank :])
            indices = tuple(np.where((i >= 0) & (i < n), i, 0) for i, n in zip(indices, extents, strict=True))
        found = array[(*np.ogrid[tuple(map(slice, array.shape[:rank]))], *indices)]
        if self.races is not None and not rank and self.races.watches(buffer):
            self._note_load(buffer, indices, mask if inside is None else mask & inside, extents)
        if inside is not None and buffer.scope is Scope.GLOBAL:
            found = np.where(inside[..., None] if buffer.dtype.lanes > 1 else inside, found, self.safe_value(buffer))
        return np.asarray(found)

    def _note_load(self, buffer: Buffer, indices: tuple[Array, ...], mask: Array, extents: tuple[int, ...]) -> None:
        assert self.races is not None
        *positions, iterations, active = np.broadcast_arrays(*indices, self.races.iterations(), mask)
        elements = np.ravel_multi_index(tuple(p[active] for p in positions), extents)
        self.races.loaded(buffer, np.asarray(elements), iterations[active], math.prod(extents), self.span)

    # -- stores
    def store(self, buffer: Buffer, indices: tuple[Array, ...], value: Array, mask: Array) -> None:
        """Writes the elements of the lanes in the mask; skipped outside a global buffer."""
        array, where, lanes, values = self._targets(buffer, indices, value, mask)
        if not lanes.size:
            return
        is_shared = len(where) == buffer.rank
        watched = self.races if self.races is not None and is_shared and self.races.watches(buffer) else None
        if watched is not None:
            extents = array.shape[: buffer.rank]
            elements = np.asarray(np.ravel_multi_index(where, extents))
            watched.storing(buffer, elements, lanes, array[where], values, math.prod(extents), self.span)
        array[where] = values
        if self.is_in_threads and is_shared and (bits(array[where]) != bits(values)).any():
            self._refuse_race(buffer)
        if watched is not None:
            watched.stored(buffer, elements, array[where], values, self.span)

    def update(self, kind: AtomicKind, buffer: Buffer, indices: tuple[Array, ...], value: Array, mask: Array, repeat: int) -> Array:
        """One atomic per lane in the mask, `repeat` times; gives what its first time found, the safe value where it was skipped."""
        array, where, lanes, values = self._targets(buffer, indices, value, mask)
        previous = np.full(math.prod(self.shape), self.safe_value(buffer), array.dtype)
        found = np.empty(lanes.size, array.dtype)
        elements = np.asarray(np.ravel_multi_index(where, array.shape[: len(where)])) if where and lanes.size else np.empty(0, np.int64)
        for turn in rounds(elements):
            at = tuple(i[turn] for i in where)
            found[turn] = old = array[at]
            for _ in range(repeat):
                old = combine(kind, old, values[turn], buffer.dtype)
            array[at] = old
        previous[lanes] = found
        return previous.reshape(self.shape)

    def _targets(self, buffer: Buffer, indices: tuple[Array, ...], value: Array, mask: Array) -> tuple[Array, tuple[Array, ...], Array, Array]:
        """The array to write, the position of each access in it, its lane number and its value, for active lanes inside the buffer."""
        array, rank = self._array(buffer)
        extents = array.shape[rank : rank + buffer.rank]
        active = np.broadcast_to(mask, self.shape)
        inside = _inside(indices, extents)
        if inside is not None:
            if buffer.scope is not Scope.GLOBAL and (active & ~inside).any():
                self._refuse(buffer, indices, active & ~inside)
            active = active & inside
        lanes = np.flatnonzero(active)
        vector = value.shape[-1:] if buffer.dtype.lanes > 1 else ()
        values = np.broadcast_to(value, self.shape + vector).reshape(-1, *vector)[lanes]
        where = tuple(np.broadcast_to(i, self.shape).reshape(-1)[lanes] for i in indices)
        if rank:
            where = (*np.unravel_index(lanes, self.shape)[len(self.shape) - rank :], *where)
        return array, where, lanes, values

    def _refuse_race(self, buffer: Buffer) -> None:
        fail(
            Kind.THREAD_RACE,
            f"threads write different values to one element of {buffer.name}",
            (Label(self.span), Label(buffer.span, f"{buffer.name} is declared here")),
            because="the threads run at the same time, so which value stays is not defined",
            help="index it by the thread, write under a condition, or use an atomic",
        )

    def _refuse(self, buffer: Buffer, indices: tuple[Array, ...], wrong: Array) -> None:
        at = np.unravel_index(int(np.flatnonzero(wrong)[0]), wrong.shape)
        position = ", ".join(str(int(np.broadcast_to(i, wrong.shape)[at])) for i in indices)
        fail(
            Kind.INDEX_RANGE,
            f"index [{position}] is outside {buffer.name}, which is {format_shape(buffer)}",
            (Label(self.span), Label(buffer.span, f"{buffer.name}: {format_shape(buffer)}")),
            because="only global tensors are guarded against indices outside",
            help="correct the index, or allocate a larger tile",
        )


def _inside(indices: tuple[Array, ...], extents: tuple[int, ...]) -> Array | None:
    """Where all indices are in range; None where they all are everywhere."""
    result: Array | None = None
    for i, n in zip(indices, extents, strict=True):
        fits = np.asarray((i >= 0) & (i < n))
        if not fits.all():
            result = fits if result is None else result & fits
    return None if result is None else np.broadcast_to(result, np.broadcast_shapes(result.shape, *(i.shape for i in indices)))
