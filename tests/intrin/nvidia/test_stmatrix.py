"""stmatrix: the inverse of ldmatrix."""

from __future__ import annotations

import numpy as np
import pytest

from tests.intrin.nvidia.compiled_text import TARGETS, compile_for
from tests.intrin.nvidia.simulated_call import CallOnArrays
from tests.intrin.nvidia.test_ldmatrix import FORMS
from tilewright.dtypes import DType
from tilewright.intrin.nvidia.ldmatrix import ldmatrix
from tilewright.intrin.nvidia.register_bytes import bytes_to_elements
from tilewright.intrin.nvidia.stmatrix import stmatrix
from tilewright.target.nvidia import Feature, NvidiaTarget


@pytest.mark.parametrize("dtype, matrices, is_transposed", FORMS, ids=str)
def test_what_was_stored_is_loaded_again(dtype: DType, matrices: int, is_transposed: bool) -> None:
    random = np.random.default_rng(matrices)
    threads = 64
    # Bits of finite numbers: NaNs would be unequal to themselves.
    octets = random.integers(0, 64, (threads, 4 * matrices)).astype(np.uint8)
    values = bytes_to_elements(octets, dtype)
    addresses = random.permutation(threads) * 16
    memory = np.full(threads * 16, 0xEE, np.uint8)
    stored = CallOnArrays(threads, {"src": values}, memory={"row": memory}, addresses={"row": addresses}, sizes={"row": 16})
    stmatrix(dtype, matrices, is_transposed).simulate(stored)
    loaded = CallOnArrays(threads, memory={"row": memory}, addresses={"row": addresses}, sizes={"row": 16})
    ldmatrix(dtype, matrices, is_transposed).simulate(loaded)
    np.testing.assert_array_equal(loaded.registers("dst"), values)
    assert (memory == 0xEE).sum() == threads * 16 * (4 - matrices) // 4


def test_lanes_store_quarters_of_rows() -> None:
    values = np.arange(64, dtype=np.uint16).reshape(32, 2)
    memory = np.zeros(128, np.uint8)
    call = CallOnArrays(32, {"src": values}, memory={"row": memory}, addresses={"row": np.arange(32) * 16}, sizes={"row": 16})
    stmatrix(FORMS[0][0], 1).simulate(call)
    np.testing.assert_array_equal(memory.view(np.uint16).reshape(8, 4, 2), values.reshape(8, 4, 2))


@pytest.mark.parametrize("target", [t for t in TARGETS if t.has(Feature.STMATRIX)], ids=lambda t: t.name)
def test_the_text_compiles(target: NvidiaTarget) -> None:
    assert compile_for(target, [stmatrix(*form) for form in FORMS])
