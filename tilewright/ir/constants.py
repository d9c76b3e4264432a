"""Python numbers as elements of a dtype (floor 2)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tilewright.dtypes import DType


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

