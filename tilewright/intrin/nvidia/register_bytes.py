"""Elements in registers as bytes and back: what an instruction sees that does not care for dtypes. Of 4-bit elements the even one is the low nibble."""

from __future__ import annotations

import numpy as np

from tilewright.dtypes import DType
from tilewright.ir.instruction import Array


def elements_to_bytes(elements: Array, dtype: DType) -> Array:
    """(…, count) elements as (…, count * bits / 8) uint8."""
    raw = np.ascontiguousarray(elements).view(np.uint8)
    if dtype.bits < 8:
        return np.asarray((raw[..., 0::2] & 15) | (raw[..., 1::2] & 15) << 4)
    return raw


def bytes_to_elements(octets: Array, dtype: DType) -> Array:
    """(…, n) uint8 as (…, n * 8 / bits) elements, 4-bit ones one per byte as ml_dtypes keeps them."""
    if dtype.bits < 8:
        codes = np.stack([octets & 15, octets >> 4], axis=-1).reshape(*octets.shape[:-1], -1)
        if dtype.is_signed and not dtype.is_float:
            codes = (codes ^ 8) - np.uint8(8)
        return np.asarray(codes).view(dtype.numpy)
    return np.ascontiguousarray(octets).view(dtype.numpy)
