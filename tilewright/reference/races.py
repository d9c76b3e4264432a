"""Finds iterations of a parallel loop whose result depends on their order (floor 7)."""

from __future__ import annotations

import math

import numpy as np

from tilewright.errors import Kind, Label, Span, fail
from tilewright.execution.memory import Array, bits
from tilewright.ir.buffer import Buffer, Scope

_WRITES = "two iterations write different values"


class _Shadow:
    """Who touched each element of one buffer, as iteration stamps; stamps below the present loop's first one mean nobody."""

    def __init__(self, size: int) -> None:
        self.writer, self.changer, self.reader = (np.zeros(size, np.int64) for _ in range(3))


class RaceDetector:
    """Watches the plain loads and stores of one parallel loop after the other.

    Two iterations race on an element where one changes its value and the other reads it or writes another value. Writing what is there
    already harms nobody. Atomics are not watched.
    """

    def __init__(self) -> None:
        self._shadows: dict[Buffer, _Shadow] = {}
        self._written: frozenset[Buffer] = frozenset()
        self._first = 1
        self._shape: tuple[int, ...] = ()
        self._count = 0

    @property
    def is_watching(self) -> bool:
        return self._count > 0

    def enter(self, written: frozenset[Buffer], shape: tuple[int, ...]) -> None:
        """A parallel loop with these extents begins that may write the root buffers `written`; loops inside it belong to its iterations."""
        self._written, self._shape, self._count = written, shape, math.prod(shape)

    def leave(self) -> None:
        self._first += self._count + 1
        self._written, self._count = frozenset(), 0

    def iterations(self) -> Array:
        """The number of each iteration, in the shape of the loop."""
        return np.arange(self._count).reshape(self._shape)

    def watches(self, buffer: Buffer) -> bool:
        return buffer.storage in self._written and buffer.source is None and buffer.given_strides is None

    def loaded(self, buffer: Buffer, elements: Array, iterations: Array, size: int, span: Span) -> None:
        """Iterations (numbers from 0) have read elements (flat positions), one each."""
        shadow, stamps, many = self._shadow(buffer, size), iterations + self._first, self._first + self._count
        changed_by = shadow.changer[elements]
        is_foreign = (changed_by >= self._first) & (changed_by != stamps)
        self._refuse(buffer, elements, is_foreign, "one iteration reads what another one writes", span)
        before = shadow.reader[elements]
        marks = np.where((before >= self._first) & (before != stamps), many, stamps)
        shadow.reader[elements] = marks
        shadow.reader[elements[shadow.reader[elements] != marks]] = many

    def storing(self, buffer: Buffer, elements: Array, lanes: Array, old: Array, new: Array, size: int, span: Span) -> None:
        """Lanes (iterations are their numbers modulo the loop's size) are about to replace the values `old` of elements by `new`."""
        shadow, stamps = self._shadow(buffer, size), lanes % self._count + self._first
        is_change = bits(old) != bits(new)
        is_change = is_change.any(axis=-1) if is_change.ndim > 1 else is_change
        for marks, what in ((shadow.writer, _WRITES), (shadow.reader, "one iteration writes what another one reads")):
            before = marks[elements]
            self._refuse(buffer, elements, is_change & (before >= self._first) & (before != stamps), what, span)
        shadow.writer[elements] = stamps
        shadow.changer[elements[is_change]] = stamps[is_change]

    def stored(self, buffer: Buffer, elements: Array, found: Array, new: Array, span: Span) -> None:
        """What the elements hold after a store in which an element may occur several times."""
        is_lost = bits(found) != bits(new)
        self._refuse(buffer, elements, is_lost.any(axis=-1) if is_lost.ndim > 1 else is_lost, _WRITES, span)

    def _shadow(self, buffer: Buffer, size: int) -> _Shadow:
        shadow = self._shadows.get(buffer)
        if shadow is None or shadow.writer.size != size:
            shadow = self._shadows[buffer] = _Shadow(size)
        return shadow

    def _refuse(self, buffer: Buffer, elements: Array, is_race: Array, what: str, span: Span) -> None:
        if is_race.any():
            at = int(elements[np.flatnonzero(is_race)[0]])
            is_tile = buffer.scope is not Scope.GLOBAL
            position = ", ".join(str(int(p)) for p in np.unravel_index(at, buffer.static_shape)) if is_tile else ""
            place = f"{buffer.name}[{position}]" if is_tile else f"element {at} of {buffer.name}"
            fail(
                Kind.PARALLEL_RACE,
                f"{what}: {place}",
                (Label(span), Label(buffer.span, f"{buffer.name} is declared here")),
                because="the iterations of T.Parallel run in any order, so the result would depend on it",
                help="use T.serial, an atomic, or a second tile for the results",
            )
