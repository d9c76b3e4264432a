"""Exchanges of a warp, lane by lane."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright import dtypes
from tilewright.ir.stmt import WarpExchangeKind as Kind
from tilewright.sim.exchange import exchange

ALL = np.ones((1, 32), bool)
VALUES = np.random.default_rng(1).integers(-9, 9, (1, 32)).astype(np.int32)


def run(kind: Kind, values: np.ndarray = VALUES, operand: int = 0, width: int = 32, lanes: np.ndarray = ALL) -> list[int]:
    dtype = dtypes.bool_ if values.dtype == bool else dtypes.as_dtype(values.dtype)
    result = exchange(kind, values, np.full((1, 32), operand), width, lanes, dtype)
    return [int(v) for v in result[0]]


@pytest.mark.parametrize("width", [4, 8, 32])
@pytest.mark.parametrize("operand", [0, 1, 3, 5, 9])
def test_shuffles(width: int, operand: int) -> None:
    own = [int(v) for v in VALUES[0]]
    start = [lane - lane % width for lane in range(32)]
    assert run(Kind.SHUFFLE, operand=operand, width=width) == [own[s + operand % width] for s in start]
    assert run(Kind.SHUFFLE_UP, operand=operand, width=width) == [own[i - operand] if i - operand >= s else own[i] for i, s in enumerate(start)]
    assert run(Kind.SHUFFLE_DOWN, operand=operand, width=width) == [own[i + operand] if i + operand < s + width else own[i] for i, s in enumerate(start)]
    assert run(Kind.SHUFFLE_XOR, operand=operand, width=width) == [own[i ^ operand] if i ^ operand < s + width else own[i] for i, s in enumerate(start)]


def test_votes_count_only_who_takes_part() -> None:
    lanes = (np.arange(32) % 3 == 0)[None]
    holds = (np.arange(32) % 2 == 0)[None]
    both = sum(1 << i for i in range(32) if i % 6 == 0)
    assert set(run(Kind.BALLOT, holds, lanes=lanes)) == {both}
    assert set(run(Kind.ACTIVE_MASK, holds, lanes=lanes)) == {sum(1 << i for i in range(0, 32, 3))}
    assert set(run(Kind.ANY, holds, lanes=lanes)) == {1} and set(run(Kind.ALL, holds, lanes=lanes)) == {0}
    assert set(run(Kind.ANY, holds & ~lanes, lanes=lanes)) == {0} and set(run(Kind.ALL, lanes, lanes=lanes)) == {1}


def test_matches() -> None:
    own = VALUES[0]
    assert run(Kind.MATCH_ANY) == [sum(1 << k for k in range(32) if own[k] == own[i]) for i in range(32)]
    assert set(run(Kind.MATCH_ALL)) == {0} and set(run(Kind.MATCH_ALL, np.full((1, 32), 7, np.int32))) == {0xFFFFFFFF}


def test_reductions_over_the_lanes_that_take_part() -> None:
    lanes = (np.arange(32) < 20)[None]
    some = VALUES[0, :20]
    assert set(run(Kind.SUM, lanes=lanes)) == {some.sum()} and set(run(Kind.MAX, lanes=lanes)) == {some.max()}
    assert set(run(Kind.MIN, lanes=lanes)) == {some.min()}
    assert set(run(Kind.BIT_AND, lanes=lanes)) == {np.bitwise_and.reduce(some)} and set(run(Kind.BIT_OR, lanes=lanes)) == {np.bitwise_or.reduce(some)}
    halves = np.full((1, 32), 0.1, np.float16)
    assert exchange(Kind.SUM, halves, None, 32, ALL, dtypes.float16)[0, 0] == np.float16(32 * float(np.float16(0.1)))
