"""Linear algebra over GF(2), against enumeration of all combinations."""

from __future__ import annotations

import random

from hypothesis import given, settings

from tests.layout.random_layouts import SEEDS
from tilewright.layout.gf2 import Span, combine, null_space, rank, remap, set_bits, union


def random_vectors(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(rng.randint(1, 6)) for _ in range(rng.randint(0, 7))]


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_span_agrees_with_enumeration(seed: int) -> None:
    vectors = random_vectors(seed)
    reached = {combine(mask, vectors) for mask in range(1 << len(vectors))}
    span = Span(vectors)
    assert 1 << span.rank == 1 << rank(vectors) == len(reached)
    for target in range(64):
        solution = span.solve(target)
        assert (solution is not None) == (target in reached)
        if solution is not None:
            assert combine(solution, vectors) == target


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_null_space_is_exactly_the_masks_that_cancel(seed: int) -> None:
    vectors = random_vectors(seed)
    basis = null_space(vectors)
    spanned = {combine(mask, basis) for mask in range(1 << len(basis))}
    assert spanned == {mask for mask in range(1 << len(vectors)) if combine(mask, vectors) == 0}
    highest = [relation.bit_length() for relation in basis]
    assert highest == sorted(set(highest))


def test_solutions_use_independent_vectors_only() -> None:
    span = Span([1, 1, 2])
    assert span.solve(3) == 0b101


def test_copies_are_independent() -> None:
    span = Span([1])
    twin = span.copy()
    twin.insert(2)
    assert (span.rank, twin.rank) == (1, 2)
    assert span.solve(2) is None


def test_bit_helpers() -> None:
    assert list(set_bits(0b101001)) == [0, 3, 5]
    assert list(set_bits(0)) == []
    assert remap(0b101, [4, 9, 1]) == 0b10010


def test_union() -> None:
    assert union([0b0011, 0b0110, 0]) == 0b0111
    assert union([]) == 0
