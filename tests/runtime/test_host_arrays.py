"""Tensors as numpy arrays and the other way round, over the same memory."""

from __future__ import annotations

import array

import ml_dtypes
import numpy as np
import pytest

from tilewright.runtime.host_arrays import as_array, as_torch


def test_what_is_no_foreign_tensor_stays() -> None:
    numbers = np.arange(3)
    assert as_array(numbers) is numbers and as_array(3) == 3 and as_array(None) is None and as_array(True) is True
    np.testing.assert_array_equal(as_array(array.array("i", [1, 2])), [1, 2])


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.int8, np.bool_, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fnuz]
)
def test_torch_and_back(dtype: type) -> None:
    pytest.importorskip("torch")
    given = np.array([[0, 1], [1, 0]]).astype(dtype)
    tensor = as_torch(given)
    assert str(tensor.dtype) == f"torch.{np.dtype(dtype).name}"
    found = as_array(tensor)
    assert found.dtype == given.dtype and np.shares_memory(found.view(np.uint8), given.view(np.uint8))
    np.testing.assert_array_equal(found.astype(np.float32), given.astype(np.float32))
