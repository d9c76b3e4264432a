"""Atomics of a run in numpy: what one leaves behind, and rounds in which no element occurs twice."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tilewright.dtypes import as_dtype
from tilewright.execution.atomics import combine, rounds
from tilewright.ir.stmt import AtomicKind


@pytest.mark.parametrize(
    ("kind", "dtype", "old", "value", "left"),
    [
        (AtomicKind.ADD, "int32", 2**31 - 1, 1, -(2**31)),
        (AtomicKind.ADD, "float16", 2048, 1, 2048),
        (AtomicKind.MAX, "float32", np.nan, 1, 1),
        (AtomicKind.MIN, "float32", -1, np.nan, -1),
        (AtomicKind.MIN, "uint8", 200, 100, 100),
        (AtomicKind.AND, "uint8", 0b1100, 0b1010, 0b1000),
        (AtomicKind.OR, "int32", 0b1100, 0b1010, 0b1110),
        (AtomicKind.XOR, "int32", 0b1100, 0b1010, 0b0110),
        (AtomicKind.EXCHANGE, "bfloat16", 3, 5, 5),
        (AtomicKind.LOAD, "bfloat16", 3, 5, 3),
    ],
)
def test_what_an_atomic_leaves(kind: AtomicKind, dtype: str, old: float, value: float, left: float) -> None:
    element = as_dtype(dtype)
    found = combine(kind, np.array([old], element.numpy), np.array([value], element.numpy), element)
    assert found.dtype == element.numpy and found.astype(np.float64).tolist() == [left]


def test_small_floats_are_rounded_after_each_step() -> None:
    total = np.zeros(1, ml_dtypes.bfloat16)
    for _ in range(300):
        total = combine(AtomicKind.ADD, total, np.ones(1, ml_dtypes.bfloat16), as_dtype("bfloat16"))
    assert total[0] == 256  # 257 is no bfloat16


@pytest.mark.parametrize("elements", [[], [7], [1, 2, 3], [5, 5, 5], [3, 1, 3, 1, 3, 2], list(np.random.default_rng(0).integers(0, 9, 200))])
def test_rounds_hold_every_access_once_and_no_element_twice(elements: list[int]) -> None:
    positions = np.array(elements, np.int64)
    found = list(rounds(positions))
    assert sorted(int(n) for turn in found for n in turn) == list(range(len(elements)))
    assert all(len(set(positions[turn])) == len(turn) for turn in found)
    assert len(found) == (max(map(elements.count, elements)) if elements else 0)


def test_equal_elements_are_visited_in_their_order() -> None:
    positions = np.array([4, 0, 4, 4, 0])
    order = {4: [], 0: []}
    for turn in rounds(positions):
        for access in turn:
            order[int(positions[access])].append(int(access))
    assert order == {4: [0, 2, 3], 0: [1, 4]}
