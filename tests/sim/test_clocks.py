"""What happens before what, in a block of four warps."""

from __future__ import annotations

import numpy as np

from tilewright.sim.clocks import Clocks
from tilewright.sim.rows import Rows
from tilewright.sim.word import CLOCK_SHIFT


def is_before(clocks: Clocks, row: int, thread: int, clock: int) -> bool:
    return bool(clocks.is_before(np.asarray([row]), np.asarray([thread]), np.asarray([clock]))[0])


def test_a_barrier_of_the_block_orders_all_threads() -> None:
    clocks = Clocks(Rows.of(np.arange(2), 128))
    assert not is_before(clocks, 40, 3, 1) and is_before(clocks, 40, 40, 1)
    clocks.block_barrier(np.asarray([0]))
    assert is_before(clocks, 40, 3, 1) and not is_before(clocks, 40, 3, 2)
    assert not is_before(clocks, 128 + 40, 3, 1), "the other block has met nobody"
    assert clocks.limit[40] == 2 << CLOCK_SHIFT and clocks.limit[128 + 40] == 1 << CLOCK_SHIFT


def test_what_a_warp_has_seen_is_passed_on() -> None:
    clocks = Clocks(Rows.of(np.arange(1), 128))
    clocks.barrier(0, np.asarray([0, 1]))
    clocks.barrier(0, np.asarray([1, 2]))
    assert is_before(clocks, 70, 3, 1), "warp 2 has met warp 1 after that had met warp 0"
    assert not is_before(clocks, 3, 70, 1), "but warp 0 has not met warp 2"
    assert not is_before(clocks, 100, 3, 1) and not is_before(clocks, 3, 100, 1)


def test_a_barrier_of_the_warp_orders_its_lanes_only() -> None:
    clocks = Clocks(Rows.of(np.arange(1), 64))
    clocks.warp_barrier(np.asarray([0]))
    assert is_before(clocks, 5, 6, 1) and not is_before(clocks, 5, 40, 1) and not is_before(clocks, 40, 5, 1)
