"""Signatures refuse what no stub could honour."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tilewright.errors import CompilerBug
from tilewright.runtime.launch_signature import (
    BoundWord,
    DataPointer,
    Dimension,
    LaunchSignature,
    ScalarArgument,
    ScalarKind,
    ScalarValue,
    Slot,
    Stride,
    TensorArgument,
)

FLOAT32 = np.dtype(np.float32)
MATRIX = TensorArgument(FLOAT32, ("m", 4), is_written=False)
NUMBER = ScalarArgument(ScalarKind.INT32)


@pytest.mark.parametrize(
    "slot",
    [DataPointer(1), DataPointer(2), DataPointer(-1), Dimension(0, 2), Dimension(0, -1), Stride(1, 0), ScalarValue(0), ScalarValue(5)],
    ids=str,
)
def test_slots_must_fit_the_arguments(slot: Slot) -> None:
    with pytest.raises(CompilerBug, match="does not fit"):
        LaunchSignature((MATRIX, NUMBER), (slot,))


@pytest.mark.parametrize("dtype", [np.dtype(">f4"), np.dtype(np.longlong if np.dtype(np.int64).char == "l" else np.long)], ids=str)
def test_dtypes_must_be_canonical(dtype: np.dtype[Any]) -> None:
    with pytest.raises(CompilerBug, match="canonical"):
        TensorArgument(dtype, (), is_written=False)


@pytest.mark.parametrize("scalar_type", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4, np.float16, np.bool_])
def test_usual_dtypes_are_canonical(scalar_type: type) -> None:
    dtype = np.dtype(scalar_type)
    assert TensorArgument(dtype, (), is_written=False).dtype_numpy is np.zeros(3, scalar_type).dtype


@pytest.mark.parametrize("alignment_bytes", [0, -8, 24])
def test_alignment_is_a_power_of_two(alignment_bytes: int) -> None:
    with pytest.raises(CompilerBug, match="power of two"):
        TensorArgument(FLOAT32, (), False, alignment_bytes)


def test_one_stride_per_axis() -> None:
    with pytest.raises(CompilerBug, match="rank 2"):
        TensorArgument(FLOAT32, (1, 2), False, strides=(1,))


def test_written_tensors_must_not_overlap_others() -> None:
    read, written = MATRIX, TensorArgument(FLOAT32, ("m",), is_written=True)
    assert LaunchSignature((read, read), ()).overlap_pairs() == ()
    assert LaunchSignature((read, NUMBER, written, read), ()).overlap_pairs() == ((0, 2), (2, 3))


def test_bound_words_are_those_given() -> None:
    assert LaunchSignature((), (BoundWord(1),), bound_count=2).slots == (BoundWord(1),)
    with pytest.raises(CompilerBug, match="none of 1 bound words"):
        LaunchSignature((), (BoundWord(1),), bound_count=1)
