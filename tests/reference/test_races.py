"""Iterations that disturb each other are found, those that do not are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from tests.execution import refused
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind, Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.reference.races import RaceDetector

SPAN = Span("program.py", 7)
TILE = Buffer("tile", as_dtype("float32"), (2, 4), Scope.SHARED, SPAN)


class Loop:
    """One parallel loop over `count` iterations, on a tile of 8 elements."""

    def __init__(self, count: int = 8) -> None:
        self.races, self.tile = RaceDetector(), np.zeros(8, np.float32)
        self.races.enter(frozenset({TILE}), (count,))

    def load(self, elements: list[int], iterations: list[int]) -> None:
        self.races.loaded(TILE, np.array(elements), np.array(iterations), 8, SPAN)

    def store(self, elements: list[int], iterations: list[int], values: list[float]) -> None:
        where, new = np.array(elements), np.array(values, np.float32)
        self.races.storing(TILE, where, np.array(iterations), self.tile[where], new, 8, SPAN)
        self.tile[where] = new
        self.races.stored(TILE, where, self.tile[where], new, SPAN)

    def again(self) -> None:
        self.races.leave()
        self.races.enter(frozenset({TILE}), (8,))


def test_iterations_with_elements_of_their_own() -> None:
    loop = Loop()
    loop.store([0, 1, 2], [0, 1, 2], [1, 2, 3])
    loop.load([0, 1, 2], [0, 1, 2])
    loop.store([0, 1, 2], [0, 1, 2], [4, 5, 6])


def test_all_may_read_what_none_writes() -> None:
    loop = Loop()
    loop.load([5, 5, 5], [0, 1, 2])
    loop.load([5], [3])


@pytest.mark.parametrize("is_later", [False, True])
def test_two_values_for_one_element(is_later: bool) -> None:
    loop = Loop()
    with refused(Kind.PARALLEL_RACE, "two iterations write different values: tile[1, 2]"):
        if is_later:
            loop.store([6], [0], [1])
            loop.store([6], [1], [2])
        else:
            loop.store([6, 6], [0, 1], [1, 2])


def test_the_value_that_is_there_already_harms_nobody() -> None:
    loop = Loop()
    loop.store([6, 6], [0, 1], [3, 3])
    loop.store([6], [2], [3])
    quiet = Loop()
    quiet.load([2], [4])
    quiet.store([2], [5], [0])


def test_reading_what_another_iteration_wrote() -> None:
    loop = Loop()
    loop.store([3], [0], [1])
    with refused(Kind.PARALLEL_RACE, "one iteration reads what another one writes: tile[0, 3]"):
        loop.load([3], [1])


@pytest.mark.parametrize("readers", [[1], [1, 2], [0, 1]])
def test_writing_what_another_iteration_read(readers: list[int]) -> None:
    loop = Loop()
    loop.load([3] * len(readers), readers)
    with refused(Kind.PARALLEL_RACE, "one iteration writes what another one reads: tile[0, 3]"):
        loop.store([3], [0], [1])


def test_loops_after_one_another_do_not_race() -> None:
    loop = Loop()
    loop.store([3], [0], [1])
    loop.again()
    loop.load([3], [1])
    loop.again()
    loop.store([3], [5], [9])


def test_lanes_of_an_inner_loop_belong_to_their_iteration() -> None:
    loop = Loop(count=4)
    loop.store([1, 1], [2, 6], [5, 5])  # lanes 2 and 6 are both iteration 2 of 4
    loop.store([1], [2], [8])
    with refused(Kind.PARALLEL_RACE):
        loop.store([1], [7], [9])


def test_what_is_watched() -> None:
    races = RaceDetector()
    assert not races.is_watching and not races.watches(TILE)
    races.enter(frozenset({TILE}), (2, 3))
    view = Buffer("view", as_dtype("float32"), (8,), Scope.SHARED, SPAN, source=TILE)
    other = Buffer("other", as_dtype("float32"), (8,), Scope.SHARED, SPAN)
    assert races.is_watching and races.watches(TILE) and not races.watches(view) and not races.watches(other)
    assert races.iterations().tolist() == [[0, 1, 2], [3, 4, 5]]
    races.leave()
    assert not races.is_watching
