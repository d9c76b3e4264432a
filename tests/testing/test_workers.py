"""Work in processes: all numbers, deaths, hangs, time limits."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from time import monotonic

import pytest

from tilewright.testing.workers import EndOfProcess, Loss, Lost, spread


def squares(job: int, number: int) -> Iterator[int]:
    yield number * number


def two_answers(job: int, number: int) -> Iterator[tuple[int, int]]:
    yield job, 0
    if number == 2:
        os._exit(9)  # the first answer stands
    yield job, 1


def mortal(job: int, number: int) -> Iterator[int]:
    if number == 1:
        os._exit(9)
    yield os.getpid()
    if number == 2:
        raise EndOfProcess


def slow(job: int, number: int) -> Iterator[int]:
    if number == 1:
        time.sleep(600)
    yield number


def variables(job: int, number: int) -> Iterator[str]:
    yield os.environ["OMP_NUM_THREADS"] + os.environ["TILEWRIGHT_THREADS"]


def test_every_number_is_worked_on_once() -> None:
    assert sorted(spread(range(10), 3, squares)) == [(n, n * n) for n in range(10)]
    assert list(spread([], 2, squares)) == []


def test_later_answers_follow_the_first() -> None:
    found = list(spread(range(4), 2, two_answers))
    assert sorted((number, answer) for number, (_, answer) in found) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1)]
    assert {job for _, (job, _) in found} <= {0, 1}


def test_a_process_that_dies_costs_one_number() -> None:
    found = dict(spread(range(5), 1, mortal))
    assert found.pop(1) == Lost(Loss.DIED, 9)
    assert sorted(found) == [0, 2, 3, 4] and found[0] != found[2] != found[3] == found[4]


def test_a_number_that_takes_too_long_is_lost() -> None:
    assert dict(spread(range(3), 1, slow, number_limit_seconds=8)) == {0: 0, 1: Lost(Loss.HUNG), 2: 2}


def test_the_time_limit_ends_everything() -> None:
    start = monotonic()
    assert dict(spread(range(3), 2, slow, time_limit_seconds=8)) == {0: 0, 2: 2}
    assert monotonic() - start < 30


def test_libraries_start_no_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("TILEWRIGHT_THREADS", "1")
    assert list(spread([0], 1, variables)) == [(0, "11")] and "OMP_NUM_THREADS" not in os.environ
