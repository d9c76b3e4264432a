"""Combining the values of a ReduceLoop (floor 7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tilewright.dtypes import DType
from tilewright.execution.memory import Array
from tilewright.ir.stmt import ReduceKind

_COMBINE: dict[ReduceKind, tuple[Any, Any]] = {  # for floats, for integers and bools
    ReduceKind.SUM: (np.add, np.add),
    ReduceKind.MAX: (np.fmax, np.maximum),
    ReduceKind.MIN: (np.fmin, np.minimum),
    ReduceKind.BIT_AND: (None, np.bitwise_and),
    ReduceKind.BIT_OR: (None, np.bitwise_or),
    ReduceKind.BIT_XOR: (None, np.bitwise_xor),
}


def identity(kind: ReduceKind, dtype: DType) -> Any:
    """The value that changes nothing, as a Python number."""
    if kind is ReduceKind.MAX:
        return -np.inf if dtype.is_float else dtype.minimum
    if kind is ReduceKind.MIN:
        return np.inf if dtype.is_float else dtype.maximum
    return -1 if kind is ReduceKind.BIT_AND and dtype.is_signed else dtype.maximum if kind is ReduceKind.BIT_AND else 0


def reduce_values(kind: ReduceKind, dtype: DType, initial: Array, chunks: Iterable[tuple[Array, Array]]) -> Array:
    """`initial` combined with all values of the chunks along their first axis, where the mask beside them holds.

    The order is free, so sums of floats are formed in float64 and rounded once: the value that every order approaches.
    """
    nibble = np.dtype(np.int8 if dtype.is_signed else np.uint8)
    wide = np.dtype(np.float64) if dtype.is_float else nibble if dtype.is_packed else dtype.numpy
    ufunc = _COMBINE[kind][0 if dtype.is_float else 1]
    neutral = np.asarray(identity(kind, dtype)).astype(wide)
    total = initial.astype(wide)
    for value, mask in chunks:
        parts = np.where(mask, value.astype(wide), neutral)
        total = ufunc(total, ufunc.reduce(parts, axis=0, dtype=wide) if kind is ReduceKind.SUM else ufunc.reduce(parts, axis=0))
    if dtype.is_packed and not dtype.is_float:
        total = (total << 4).astype(wide) >> 4
    return np.asarray(total).astype(dtype.numpy)
