"""elect.sync: exactly one lane."""

from __future__ import annotations

import numpy as np
import pytest

from tests.intrin.nvidia.compiled_text import TARGETS, compile_for
from tests.intrin.nvidia.simulated_call import CallOnArrays
from tilewright.intrin.nvidia.elect import ELECT
from tilewright.target.nvidia import Feature, NvidiaTarget


def test_one_lane_of_each_mask_is_elected() -> None:
    masks = np.repeat(np.array([0xFFFFFFFF, 0xF0], np.uint32), 32)
    call = CallOnArrays(64, values={"mask": masks})
    ELECT.simulate(call)
    assert np.flatnonzero(call.registers("is_elected")[:, 0]).tolist() == [0, 36]


@pytest.mark.parametrize("target", [t for t in TARGETS if t.has(Feature.ELECT)], ids=lambda t: t.name)
def test_the_text_compiles(target: NvidiaTarget) -> None:
    assert compile_for(target, [ELECT])
