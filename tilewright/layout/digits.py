"""Digits: how an extent is written as a product of small radices, least significant first (floor 1).

A tile axis of extent 192 has the digits (2, 2, 2, 2, 2, 2, 3): all its factors 2, then its odd prime factors. A coordinate is then a tuple
of digit values, and a layout (`layout.py`) says where each digit goes. Example: coordinate 70 of that axis is 0,1,1,0,0,0 | 1 because
70 = 2 + 4 + 64 * 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import prod
from operator import mul

REG = "reg"
LANE = "lane"
WARP = "warp"
THREAD = "thread"
OFFSET = "offset"
STAGE = "stage"
REPLICA = "replica"


class LayoutError(ValueError):
    """Misuse of the layout algebra by compiler code: shapes, names or digits that do not fit.

    Callers turn it into a diagnostic if a user caused it.
    """


@lru_cache(maxsize=4096)
def factor(extent: int) -> tuple[int, ...]:
    """The canonical digits of `extent`: every factor 2 first, then odd primes in ascending order; () for 1.

    Raises: LayoutError if `extent` < 1.
    """
    if extent < 1:
        raise LayoutError(f"an axis needs an extent of at least 1, got {extent}")
    digits: list[int] = []
    prime = 2
    while prime * prime <= extent:
        while extent % prime == 0:
            digits.append(prime)
            extent //= prime
        prime += 1 if prime == 2 else 2
    if extent > 1:
        digits.append(extent)
    return tuple(digits)


def place_values(digits: tuple[int, ...]) -> tuple[int, ...]:
    """The weight of each digit: (2, 2, 3) gives (1, 2, 4)."""
    return tuple(accumulate(digits[:-1], mul, initial=1)) if digits else ()


def digit_runs(digits: tuple[int, ...]) -> list[tuple[int, int]]:
    """Cuts digits into (start, stop) runs: adjacent twos together, odd digits alone. (2, 2, 3, 2) gives (0, 2), (2, 3), (3, 4)."""
    starts = [position for position, radix in enumerate(digits) if position == 0 or radix != 2 or digits[position - 1] != 2]
    return list(zip(starts, [*starts[1:], len(digits)], strict=True)) if digits else []


def log2_exact(value: int) -> int:
    """The exponent of a power of two. Raises: LayoutError for anything else."""
    if value < 1 or value & (value - 1):
        raise LayoutError(f"{value} is not a power of two")
    return value.bit_length() - 1


@dataclass(frozen=True, slots=True)
class Axis:
    """A named axis and the radices of its digits, least significant first; its extent is their product."""

    name: str
    digits: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(radix < 2 or (radix > 2 and radix % 2 == 0) for radix in self.digits):
            raise LayoutError(f"axis {self.name}: digits are 2 or odd, got {self.digits}")

    @classmethod
    def of(cls, name: str, extent: int) -> Axis:
        """An axis of `extent` with canonical digits."""
        return cls(name, factor(extent))

    @property
    def extent(self) -> int:
        return prod(self.digits)

    @property
    def places(self) -> tuple[int, ...]:
        """The weight of each digit in the coordinate."""
        return place_values(self.digits)

    def low_digits(self, extent: int) -> int:
        """How many low digits multiply to `extent`. Raises: LayoutError if no low run does."""
        product, count = 1, 0
        while product < extent and count < len(self.digits):
            product *= self.digits[count]
            count += 1
        if product != extent:
            raise LayoutError(f"axis {self.name} with digits {self.digits} has no low part of extent {extent}")
        return count

    def __str__(self) -> str:
        return f"{self.name}={self.extent}"


def tile_axes(extents: tuple[int, ...]) -> tuple[Axis, ...]:
    """The axes d0, d1, … of a tile given by its extents; the last one is contiguous by convention."""
    return tuple(Axis.of(f"d{position}", extent) for position, extent in enumerate(extents))
