"""prmt: bytes picked by nibbles."""

from __future__ import annotations

import numpy as np
import pytest

from tests.intrin.nvidia.compiled_text import TARGETS, compile_for
from tests.intrin.nvidia.simulated_call import CallOnArrays
from tilewright.intrin.nvidia.prmt import PRMT
from tilewright.target.nvidia import NvidiaTarget


@pytest.mark.parametrize("selector, expected", [(0x3210, 0x44332281), (0x7654, 0x88776655), (0x0123, 0x81223344), (0x5140, 0x66225581), (0x8C0F, 0xFF0081FF)])
def test_bytes_and_signs(selector: int, expected: int) -> None:
    call = CallOnArrays(1, values={"a": np.array([0x44332281]), "b": np.array([0x88776655]), "selector": np.array([selector])})
    PRMT.simulate(call)
    assert int(call.registers("dst")[0, 0]) == expected


@pytest.mark.parametrize("target", TARGETS[:1], ids=lambda t: t.name)
def test_the_text_compiles(target: NvidiaTarget) -> None:
    assert compile_for(target, [PRMT])
