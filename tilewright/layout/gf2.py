"""Linear algebra over GF(2) on Python ints (floor 1): a vector is a bit mask, addition is XOR.

Odd digits need no second algebra: an odd digit goes to one odd digit that nothing else touches, so its column is a unit vector on a bit of
its own, and elimination over GF(2) treats it correctly without ever mixing it with others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def set_bits(mask: int) -> Iterator[int]:
    """The positions of the set bits, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def remap(mask: int, positions: Sequence[int]) -> int:
    """Moves bit b to bit positions[b]."""
    moved = 0
    for bit in set_bits(mask):
        moved |= 1 << positions[bit]
    return moved


def combine(mask: int, vectors: Sequence[int]) -> int:
    """The XOR of the vectors that `mask` selects: a matrix with these columns times the vector `mask`."""
    total = 0
    for bit in set_bits(mask):
        total ^= vectors[bit]
    return total


def union(masks: Iterable[int]) -> int:
    """All bits that some mask has."""
    total = 0
    for mask in masks:
        total |= mask
    return total


class Span:
    """The span of the vectors inserted so far; answers rank, membership, and which inserted vectors sum to a given one."""

    __slots__ = ("_count", "_rows")

    def __init__(self, vectors: Iterable[int] = ()) -> None:
        self._rows: dict[int, tuple[int, int]] = {}  # leading bit -> (vector, mask of inserted vectors that sum to it)
        self._count = 0
        for vector in vectors:
            self.insert(vector)

    @property
    def rank(self) -> int:
        return len(self._rows)

    def _reduce(self, vector: int, combination: int) -> tuple[int, int]:
        rows = self._rows
        while vector:
            row = rows.get(vector.bit_length() - 1)
            if row is None:
                break
            vector ^= row[0]
            combination ^= row[1]
        return vector, combination

    def insert(self, vector: int) -> int:
        """Adds a vector. Gives 0 if it was independent, else the mask of inserted vectors (this one included) that sum to zero."""
        rest, combination = self._reduce(vector, 1 << self._count)
        self._count += 1
        if rest:
            self._rows[rest.bit_length() - 1] = (rest, combination)
            return 0
        return combination

    def solve(self, target: int) -> int | None:
        """The mask of inserted vectors that sum to `target`, or None if it lies outside the span.

        Only vectors that were independent when inserted are used.
        """
        rest, combination = self._reduce(target, 0)
        return None if rest else combination

    def copy(self) -> Span:
        twin = Span()
        twin._rows = dict(self._rows)
        twin._count = self._count
        return twin


def null_space(columns: Iterable[int]) -> tuple[int, ...]:
    """A basis of the masks x with columns * x = 0; each has one digit as its highest bit that depends on lower ones."""
    span = Span()
    return tuple(relation for column in columns if (relation := span.insert(column)))


def rank(vectors: Iterable[int]) -> int:
    """The dimension of the span."""
    return Span(vectors).rank
