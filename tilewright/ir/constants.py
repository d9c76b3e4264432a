"""Python numbers as elements of a dtype: conversion and folding (floor 2)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.ir.operation import COMPARISONS, Op

_SYMMETRIC_FOLDS = {Op.ADD: lambda a, b: a + b, Op.SUB: lambda a, b: a - b, Op.MUL: lambda a, b: a * b}


def convert_constant(value: Any, dtype: DType) -> bool | int | float:
    """A Python number as an element of `dtype`: integers wrap, floats truncate (and saturate) to integers and round to floats."""
    if dtype.is_bool:
        return bool(value)
    if dtype.is_float:
        if dtype.numpy.itemsize >= 8:
            return float(value)
        with np.errstate(all="ignore"):
            return float(np.asarray(value, np.float64).astype(np.float32 if dtype.bits < 32 else dtype.numpy).astype(dtype.numpy).astype(np.float64))
    if isinstance(value, float):  # saturates, and NaN gives 0, as in code that runs
        return 0 if math.isnan(value) else int(min(max(value, dtype.minimum), dtype.maximum))
    bits = dtype.bits
    wrapped = int(value) & ((1 << bits) - 1)
    return wrapped - (1 << bits) if dtype.is_signed and wrapped >> (bits - 1) else wrapped


def fold_constants(op: Op, x: Any, y: Any, dtype: DType) -> Any:
    """`x op y` on Python numbers of a dtype, no integer divided by zero; None where the result is left to code that runs."""
    if op in COMPARISONS:
        return {Op.EQ: x == y, Op.NE: x != y, Op.LT: x < y, Op.LE: x <= y, Op.GT: x > y, Op.GE: x >= y}[op]
    if op in _SYMMETRIC_FOLDS and (dtype.is_integer or dtype in (dtypes.float32, dtypes.float64)):
        with np.errstate(all="ignore"):
            return _SYMMETRIC_FOLDS[op](x, y) if dtype.is_integer else _SYMMETRIC_FOLDS[op](dtype.numpy.type(x), dtype.numpy.type(y)).item()
    if op in (Op.MIN, Op.MAX) and not (dtype.is_float and (math.isnan(x) or math.isnan(y))):
        return min(x, y) if op is Op.MIN else max(x, y)
    if dtype.is_float:
        return None
    if op in (Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD):
        truncated = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        return {Op.FLOORDIV: x // y, Op.FLOORMOD: x % y, Op.TRUNCDIV: truncated, Op.TRUNCMOD: x - truncated * y}[op]
    if op in (Op.SHIFT_LEFT, Op.SHIFT_RIGHT):
        return x << y if op is Op.SHIFT_LEFT else x >> y
    return {Op.BIT_AND: x & y, Op.BIT_OR: x | y, Op.BIT_XOR: x ^ y}[op]
