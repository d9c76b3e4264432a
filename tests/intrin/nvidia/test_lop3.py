"""lop3: the table is the function's value on 0xF0, 0xCC, 0xAA."""

from __future__ import annotations

import numpy as np
import pytest

from tests.intrin.nvidia.compiled_text import TARGETS, compile_for
from tests.intrin.nvidia.simulated_call import CallOnArrays
from tilewright.intrin.nvidia.lop3 import LOP3
from tilewright.target.nvidia import NvidiaTarget


@pytest.mark.parametrize(
    "function", [lambda a, b, c: a & b | c, lambda a, b, c: a ^ b ^ c, lambda a, b, c: ~(a | b) & c, lambda a, b, c: (a & b) | (b & c) | (a & c)]
)
def test_any_function_of_three_words(function: object) -> None:
    table = function(0xF0, 0xCC, 0xAA) & 0xFF  # type: ignore[operator]
    random = np.random.default_rng(11)
    a, b, c = (random.integers(0, 1 << 32, 50).astype(np.uint32) for _ in range(3))
    call = CallOnArrays(50, values={"a": a, "b": b, "c": c}, immediates={"table": table})
    LOP3.simulate(call)
    np.testing.assert_array_equal(call.registers("dst")[:, 0], function(a, b, c))  # type: ignore[operator]


@pytest.mark.parametrize("target", TARGETS[:1], ids=lambda t: t.name)
def test_the_text_compiles(target: NvidiaTarget) -> None:
    assert compile_for(target, [LOP3])
