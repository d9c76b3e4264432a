"""Digits: factoring extents and the weights of digits."""

from __future__ import annotations

from math import prod

import pytest

from tilewright.layout import Axis, LayoutError, factor, place_values, tile_axes
from tilewright.layout.digits import digit_runs, log2_exact


@pytest.mark.parametrize(
    ("extent", "digits"),
    [
        (1, ()),
        (2, (2,)),
        (3, (3,)),
        (80, (2, 2, 2, 2, 5)),
        (96, (2, 2, 2, 2, 2, 3)),
        (192, (2, 2, 2, 2, 2, 2, 3)),
        (576, (2, 2, 2, 2, 2, 2, 3, 3)),
        (97, (97,)),
        (100, (2, 2, 5, 5)),
    ],
)
def test_factor_of_known_extents(extent: int, digits: tuple[int, ...]) -> None:
    assert factor(extent) == digits


def test_factor_multiplies_back_and_lists_twos_first_then_ascending_primes() -> None:
    for extent in range(1, 1200):
        digits = factor(extent)
        assert prod(digits) == extent
        assert list(digits) == sorted(digits)
        assert all(all(radix % divisor for divisor in range(2, int(radix**0.5) + 1)) for radix in digits)


@pytest.mark.parametrize("extent", [0, -4])
def test_factor_refuses_empty_axes(extent: int) -> None:
    with pytest.raises(LayoutError, match="at least 1"):
        factor(extent)


def test_place_values_rebuild_every_coordinate() -> None:
    axis = Axis("n", (2, 3, 2, 5))
    assert axis.places == place_values((2, 3, 2, 5)) == (1, 2, 6, 12)
    assert place_values(()) == ()
    seen = {sum(d * p for d, p in zip((a, b, c, e), axis.places, strict=True)) for a in range(2) for b in range(3) for c in range(2) for e in range(5)}
    assert seen == set(range(axis.extent))


def test_axis_refuses_even_digits_above_two() -> None:
    for radix in (1, 4, 6, 0):
        with pytest.raises(LayoutError, match="2 or odd"):
            Axis("n", (radix,))


def test_low_digits_counts_a_low_run_or_refuses() -> None:
    axis = Axis.of("n", 24)
    assert [axis.low_digits(extent) for extent in (1, 2, 4, 8, 24)] == [0, 1, 2, 3, 4]
    for extent in (3, 12, 48):
        with pytest.raises(LayoutError, match="no low part"):
            axis.low_digits(extent)


def test_tile_axes_are_named_by_position() -> None:
    assert tile_axes((64, 80)) == (Axis.of("d0", 64), Axis.of("d1", 80))


def test_log2_exact() -> None:
    assert [log2_exact(1 << power) for power in range(12)] == list(range(12))
    for value in (0, -2, 3, 12):
        with pytest.raises(LayoutError):
            log2_exact(value)


def test_digit_runs_join_twos_only() -> None:
    assert digit_runs((2, 2, 3, 2)) == [(0, 2), (2, 3), (3, 4)]
    assert digit_runs((3, 3)) == [(0, 1), (1, 2)]
    assert digit_runs(()) == []
