"""dp4a: sums of four products."""

from __future__ import annotations

import numpy as np
import pytest

from tests.intrin.nvidia.compiled_text import TARGETS, compile_for
from tests.intrin.nvidia.simulated_call import CallOnArrays
from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.intrin.nvidia.dp4a import dp4a

PAIRS = [(a, b) for a in (dtypes.int8, dtypes.uint8) for b in (dtypes.int8, dtypes.uint8)]


@pytest.mark.parametrize("a_dtype, b_dtype", PAIRS, ids=str)
def test_sums_of_products(a_dtype: DType, b_dtype: DType) -> None:
    random = np.random.default_rng(2)
    a, b = (random.integers(0, 256, (40, 4)).astype(np.uint8).view(d.numpy) for d in (a_dtype, b_dtype))
    c = random.integers(-(1 << 31), 1 << 31, (40, 1)).astype(np.int32)
    call = CallOnArrays(40, {"a": a, "b": b, "c": c})
    dp4a(a_dtype, b_dtype).simulate(call)
    expected = [(sum(int(x) * int(y) for x, y in zip(p, q)) + int(r[0]) + (1 << 31)) % (1 << 32) - (1 << 31) for p, q, r in zip(a, b, c)]
    assert call.registers("c")[:, 0].tolist() == expected


def test_the_text_compiles() -> None:
    assert compile_for(TARGETS[0], [dp4a(*pair) for pair in PAIRS])
