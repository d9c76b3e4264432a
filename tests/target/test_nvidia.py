"""The table of NVIDIA architectures."""

from __future__ import annotations

import pytest

from tilewright.target.nvidia import NVIDIA_TARGETS, SM_80, SM_90, SM_90A, Feature


@pytest.mark.parametrize("name, capability", [("sm_80", (8, 0)), ("sm_86", (8, 6)), ("sm_89", (8, 9)), ("sm_90", (9, 0)), ("sm_90a", (9, 0))])
def test_names_give_capabilities(name: str, capability: tuple[int, int]) -> None:
    assert NVIDIA_TARGETS[name].capability == capability


def test_later_architectures_keep_the_features_of_earlier_ones() -> None:
    assert SM_80.features < SM_90.features < SM_90A.features
    assert SM_90A.has(Feature.WGMMA) and not SM_90.has(Feature.WGMMA)


def test_a_block_gets_less_shared_memory_than_its_multiprocessor_has() -> None:
    for target in NVIDIA_TARGETS.values():
        assert target.shared_bytes_per_block + target.reserved_shared_bytes <= target.shared_bytes_per_sm
