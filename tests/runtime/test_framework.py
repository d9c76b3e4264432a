"""Places, and the names of dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.dtypes import as_dtype
from tilewright.runtime.framework import Place, numpy_dtype_name, packed_shape, spelling


def test_a_place_holds_its_own_devices() -> None:
    assert Place.CPU.holds("cpu") and not Place.CPU.holds("cuda:0") and not Place.CPU.holds("meta")
    assert Place.GPU.holds("cuda:3") and Place.GPU.holds("cuda_managed:0") and not Place.GPU.holds("cpu")


def test_names_of_dtypes() -> None:
    assert numpy_dtype_name(np.dtype(ml_dtypes.bfloat16)) == "bfloat16" and numpy_dtype_name(np.dtype(">f4")) == "float32 in the other byte order"
    assert spelling(as_dtype("bfloat16")) == "ml_dtypes.bfloat16" and spelling(as_dtype("int8")) == "numpy.int8"


def test_two_elements_of_four_bits_share_a_byte() -> None:
    assert packed_shape((3, 5)) == (3, 3) and packed_shape(()) == (1,)
