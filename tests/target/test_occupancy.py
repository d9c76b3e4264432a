"""Occupancy against figures of NVIDIA's calculator and of known kernels."""

from __future__ import annotations

import pytest

from tilewright.target.nvidia import SM_80, SM_86, SM_90, NvidiaTarget
from tilewright.target.occupancy import occupancy


@pytest.mark.parametrize(
    ("target", "threads", "registers", "shared", "blocks", "limited_by"),
    [
        (SM_80, 128, 32, 0, 16, "threads"),
        (SM_80, 128, 255, 0, 2, "registers"),
        (SM_80, 256, 128, 0, 2, "registers"),
        (SM_80, 128, 64, 80 * 1024, 2, "shared memory"),
        (SM_80, 128, 64, 163 * 1024, 1, "shared memory"),
        (SM_80, 128, 64, 164 * 1024, 0, "shared memory"),
        (SM_80, 32, 16, 0, 32, "blocks"),
        (SM_86, 256, 32, 0, 6, "threads"),
        (SM_90, 384, 168, 200 * 1024, 1, "registers"),
        (SM_90, 1024, 64, 0, 1, "registers"),
        (SM_90, 1056, 16, 0, 0, "threads"),
    ],
)
def test_blocks(target: NvidiaTarget, threads: int, registers: int, shared: int, blocks: int, limited_by: str) -> None:
    found = occupancy(target, threads, registers, shared)
    assert (found.blocks_per_sm, found.limited_by) == (blocks, limited_by)
    assert found.warps_per_sm == blocks * -(-threads // 32) and 0 <= found.share <= 1
