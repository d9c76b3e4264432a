"""4-bit elements two per byte, as kernels see them, and one per byte, as ml_dtypes keeps them (floor 7). The even element is the low nibble."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.dtypes import DType

Array = npt.NDArray[Any]


def pack_nibbles(elements: Array) -> Array:
    """Elements of int4, uint4 or float4_e2m1fn, in row-major order, as ceil(size / 2) bytes."""
    codes = np.zeros(elements.size + elements.size % 2, np.uint8)
    codes[: elements.size] = np.ascontiguousarray(elements).view(np.uint8).reshape(-1) & 15
    return np.asarray(codes[0::2] | codes[1::2] << 4)


def unpack_nibbles(octets: Array, dtype: DType) -> Array:
    """Bytes as elements of `dtype`: the last axis is twice as long."""
    raw = np.ascontiguousarray(octets).view(np.uint8)
    codes = np.stack([raw & 15, raw >> 4], axis=-1).reshape(*raw.shape[:-1], -1)
    if dtype.is_signed and not dtype.is_float:
        codes = (codes ^ 8) - np.uint8(8)  # the sign in all upper bits, as ml_dtypes keeps it
    return codes.view(dtype.numpy)
