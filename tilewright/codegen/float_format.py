"""The narrow float formats as numbers, read off ml_dtypes (floor 6)."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from tilewright.dtypes import DType

HALF_BIAS = 15


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """A float narrower than 32 bits, as ml_dtypes defines it."""

    exponent_bits: int
    mantissa_bits: int
    bias: int
    maximum: float
    has_infinity: bool
    has_nan: bool
    has_negative_zero: bool
    infinity_code: int
    nan_code: int
    sign_bit: int

    @property
    def smallest_exponent(self) -> int:
        """Power of two of the smallest normal number."""
        return 1 - self.bias

    @property
    def fits_half(self) -> bool:
        """float16 with its exponent moved holds every number of the format."""
        return self.is_half_prefix or self.exponent_bits < 5

    @property
    def is_half_prefix(self) -> bool:
        """Codes are the upper bits of float16 codes, infinity and NaN included."""
        return self.bias == HALF_BIAS and self.has_infinity

    @property
    def overflow_bound(self) -> tuple[float, bool]:
        """Half way from the maximum to the next power step, and whether exactly that still rounds down (the maximum has an even code)."""
        fraction, exponent = math.frexp(self.maximum)
        step = math.ldexp(1.0, exponent - 1 - self.mantissa_bits)
        return self.maximum + step / 2, int(fraction * (2 << self.mantissa_bits)) % 2 == 0


@functools.cache
def float_format(dtype: DType) -> FloatFormat:
    """The format of a float dtype of at most 16 bits other than float8_e8m0fnu."""
    raw_type = np.dtype(f"uint{dtype.bits if dtype.bits == 16 else 8}")
    special = np.array([math.nan, math.inf, -0.0], np.float32)
    with np.errstate(all="ignore"):
        codes = special.astype(dtype.numpy)
        back = codes.astype(np.float32)
        smallest_normal = np.array([1 << dtype.mantissa_bits], raw_type).view(dtype.numpy).astype(np.float32)
    bias = 1 - round(math.log2(smallest_normal[0]))
    nan_code, infinity_code, _ = codes.view(raw_type).tolist()
    return FloatFormat(
        dtype.exponent_bits,
        dtype.mantissa_bits,
        bias,
        float(dtype.maximum),
        bool(np.isinf(back[1])),
        bool(np.isnan(back[0])),
        bool(np.signbit(back[2])),
        infinity_code,
        nan_code,
        1 << (dtype.bits - 1),
    )


def is_power_format(dtype: DType) -> bool:
    """float8_e8m0fnu: powers of two only, no zero and no sign."""
    return dtype.is_float and dtype.mantissa_bits == 0


def is_symmetric(dtype: DType) -> bool:
    """The negative of every value of a float dtype is a value, the signs of zeros counted."""
    return dtype.bits >= 32 or not (is_power_format(dtype) or not float_format(dtype).has_negative_zero)
