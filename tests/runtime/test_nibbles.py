"""4-bit elements survive packing and unpacking."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.dtypes import SCALAR_DTYPES, DType, as_dtype
from tilewright.runtime.nibbles import pack_nibbles, unpack_nibbles

PACKED = [d for d in SCALAR_DTYPES if d.is_packed]


@pytest.mark.parametrize("dtype", PACKED)
@given(codes=st.lists(st.integers(0, 15), max_size=9))
@settings(max_examples=30, deadline=None)
def test_nibbles(dtype: DType, codes: list[int]) -> None:
    elements = np.array(codes, np.uint8).view(dtype.numpy)
    octets = pack_nibbles(elements)
    assert octets.size == (len(codes) + 1) // 2
    assert [(octets[k // 2] >> 4 * (k % 2)) & 15 for k in range(len(codes))] == codes
    assert (unpack_nibbles(octets, dtype)[: len(codes)].view(np.uint8) & 15 == np.array(codes, np.uint8)).all()
    assert np.array_equal(unpack_nibbles(octets, dtype)[: len(codes)].astype(np.float32), elements.astype(np.float32))


def test_nibbles_of_negative_integers() -> None:
    elements = np.array([-8, -1, 0, 7]).astype(ml_dtypes.int4)
    assert unpack_nibbles(pack_nibbles(elements), as_dtype("int4")).astype(int).tolist() == [-8, -1, 0, 7]
