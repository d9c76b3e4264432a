"""Bank conflicts and sectors from addresses, against what the layouts predict."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.layout.banks import bank_conflict_ways
from tilewright.layout.digits import LANE, Axis
from tilewright.layout.layout import Layout
from tilewright.sim.traffic import bank_phases, sectors


@pytest.mark.parametrize("element_bytes", [2, 4, 8, 16])
@pytest.mark.parametrize("stride", [0, 1, 2, 4, 8, 16, 32, 64])
def test_strides_are_as_the_layouts_predict(element_bytes: int, stride: int) -> None:
    steps = [{"offset": stride << digit} if stride else {} for digit in range(5)]
    access = Layout.from_basis((Axis.of(LANE, 32),), (Axis.of("offset", 4096),), {LANE: steps})
    addresses = np.arange(32)[None] * stride * element_bytes
    requests, phases, ideal, worst = bank_phases(addresses, element_bytes)
    assert (requests, ideal) == (1, max(1, element_bytes // 4))
    assert worst == bank_conflict_ways(access, 8 * element_bytes) and phases == worst * ideal


def test_lanes_that_take_no_part_cost_nothing() -> None:
    addresses = np.where(np.arange(32) % 8 == 0, np.arange(32) * 128, -1)[None]
    assert bank_phases(addresses, 4) == (1, 4, 1, 4)
    assert bank_phases(np.full((2, 32), -1), 4) == (0, 0, 0, 0)
    assert sectors(addresses, 4) == (1, 4, 1, 4)


def test_sectors_of_dense_strided_and_shared_accesses() -> None:
    lanes = np.arange(32)[None]
    assert sectors(lanes * 4, 4) == (1, 4, 4, 4)
    assert sectors(lanes * 16, 16) == (1, 16, 16, 16)
    assert sectors(lanes * 64, 4) == (1, 32, 4, 32)
    assert sectors(lanes * 0, 4) == (1, 1, 1, 1)
    assert sectors(lanes * 4 + 16, 4) == (1, 5, 4, 5), "a dense row that starts between sectors"
