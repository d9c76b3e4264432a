"""Elements of registers as bytes and back."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype
from tilewright.intrin.nvidia.register_bytes import bytes_to_elements, elements_to_bytes


@pytest.mark.parametrize("dtype", [dtypes.int4, dtypes.uint4, dtypes.int8, dtypes.uint16, dtypes.int32, as_dtype("float8_e5m2")], ids=str)
def test_bytes_survive(dtype: DType) -> None:
    octets = np.random.default_rng(3).integers(0, 256, (5, 16)).astype(np.uint8)
    elements = bytes_to_elements(octets, dtype)
    assert elements.shape == (5, 16 * 8 // dtype.bits) and elements.dtype == dtype.numpy
    np.testing.assert_array_equal(elements_to_bytes(elements, dtype), octets)


def test_the_even_nibble_is_the_low_one_and_signed() -> None:
    assert bytes_to_elements(np.array([0x8F], np.uint8), dtypes.int4).astype(int).tolist() == [-1, -8]
    assert bytes_to_elements(np.array([0x8F], np.uint8), dtypes.uint4).astype(int).tolist() == [15, 8]
