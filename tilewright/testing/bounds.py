"""What a generator knows of the values in a tile: how large, how far two right executors may differ, and whether they are exact (floor 9)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright import dtypes
from tilewright.dtypes import DType, promote


@dataclass(frozen=True)
class Bound:
    """Facts about every element of a tile or expression.

    dtype      what it is computed in.
    magnitude  no absolute value exceeds it.
    error      two executors that keep the numerics contract differ by at most this much; 0 means bit for bit.
    grain      all values are multiples of it (a power of two); 0 where nothing is known.
    """

    dtype: DType
    magnitude: float
    error: float = 0.0
    grain: float = 1.0

    @property
    def is_certain(self) -> bool:
        """Whether all executors have the same bits, so that discontinuous operations are allowed."""
        return self.error == 0

    @property
    def fits(self) -> bool:
        """Whether the values (and their errors) stay clear of overflow."""
        limit = float(self.dtype.maximum)
        return self.magnitude + self.error <= (limit if self.dtype.is_integer or self.dtype.is_bool else limit / 2)


def unit_roundoff(dtype: DType) -> float:
    """Half the distance from 1 to the next number of a float dtype."""
    return float(2.0 ** -(dtype.mantissa_bits + 1))


def holds_exactly(dtype: DType, magnitude: float, grain: float) -> bool:
    """Whether every multiple of `grain` up to `magnitude` is a number of the dtype."""
    if not dtype.is_float:
        return grain >= 1 and magnitude <= float(dtype.maximum)
    smallest = 2.0 ** (3 - 2 ** max(dtype.exponent_bits - 1, 1) - dtype.mantissa_bits)  # safely above the subnormal step
    return grain >= smallest and magnitude <= grain * 2.0 ** (dtype.mantissa_bits + 1) and magnitude <= float(dtype.maximum)


def rounded(dtype: DType, magnitude: float, error: float, grain: float, *, is_free: bool = False) -> Bound:
    """A result rounded to `dtype` once. Rounding equal values gives equal results; `is_free` says that it may be left out (contraction)."""
    if not dtype.is_float:
        return Bound(dtype, magnitude, error, grain)
    if holds_exactly(dtype, magnitude, grain) and error == 0:
        return Bound(dtype, magnitude, 0.0, grain)
    unit = unit_roundoff(dtype)
    doubt = error + 2 * unit * magnitude if error or is_free else 0.0
    return Bound(dtype, magnitude * (1 + 2 * unit), doubt, grain)


def convert(value: Bound, dtype: DType) -> Bound | None:
    """A cast; None where it could overflow or depend on the last bit."""
    if value.dtype == dtype:
        return value
    if dtype.is_float:
        made = rounded(dtype, value.magnitude, value.error, value.grain)
        return made if made.fits else None
    if not value.is_certain or dtype.is_bool:
        return None
    if value.dtype.is_float and (value.magnitude > float(dtype.maximum) or not dtype.is_signed):
        return None
    # Integers wrap, which is the same everywhere.
    fits = value.magnitude <= float(dtype.maximum) and (dtype.is_signed or not value.dtype.is_signed)
    return Bound(dtype, value.magnitude if fits else full_range(dtype), 0.0, max(1.0, value.grain) if fits else 1.0)


def full_range(dtype: DType) -> float:
    return float(max(abs(dtype.minimum), abs(dtype.maximum)))


def add(a: Bound, b: Bound) -> Bound | None:
    """a + b or a - b after promotion."""
    return _arithmetic(a, b, a.magnitude + b.magnitude, a.error + b.error, min(a.grain, b.grain))


def multiply(a: Bound, b: Bound) -> Bound | None:
    error = a.magnitude * b.error + b.magnitude * a.error + a.error * b.error
    return _arithmetic(a, b, a.magnitude * b.magnitude, error, a.grain * b.grain, is_product=True)


def _arithmetic(a: Bound, b: Bound, magnitude: float, error: float, grain: float, *, is_product: bool = False) -> Bound | None:
    dtype = promote(a.dtype, b.dtype)
    x, y = convert(a, dtype), convert(b, dtype)
    if x is None or y is None or dtype.is_bool:
        return None
    if dtype.is_integer:
        is_small = x.magnitude == a.magnitude and y.magnitude == b.magnitude and magnitude <= float(dtype.maximum) and dtype.is_signed
        return Bound(dtype, magnitude if is_small else full_range(dtype))
    scale = magnitude and max(x.magnitude, y.magnitude) + magnitude
    error += (x.error - a.error) * (y.magnitude if is_product else 1) + (y.error - b.error) * (x.magnitude if is_product else 1)
    # A product of float32 or float64 may be fused with a later sum.
    made = rounded(dtype, magnitude, error, grain, is_free=is_product and dtype in (dtypes.float32, dtypes.float64))
    return made if made.fits and scale <= float(dtype.maximum) else None


def extremum(a: Bound, b: Bound) -> Bound | None:
    """max, min, or a choice between two values."""
    dtype = promote(a.dtype, b.dtype)
    x, y = convert(a, dtype), convert(b, dtype)
    if x is None or y is None:
        return None
    return Bound(dtype, max(x.magnitude, y.magnitude), max(x.error, y.error), min(x.grain, y.grain))


def function(value: Bound, magnitude: float, slope: float, ulp: float) -> Bound:
    """A smooth function of a float: |f| <= magnitude and |f'| <= slope on the values' range, wrong by at most `ulp` units."""
    unit = unit_roundoff(value.dtype)
    return Bound(value.dtype, magnitude * (1 + 2 * unit), slope * value.error + 2 * ulp * unit * magnitude, 0.0)


def accumulate(dtype: DType, term: Bound, count: int, start: Bound | None = None) -> Bound | None:
    """A sum of `count` terms in any order, kept in `dtype` (in float32 for narrower floats) and rounded to it once."""
    magnitude = count * term.magnitude + (start.magnitude if start else 0.0)
    error = count * term.error + (start.error if start else 0.0)
    grain = min(term.grain, start.grain) if start else term.grain
    if dtype.is_integer:
        fits = magnitude <= float(dtype.maximum) and dtype.is_signed
        return Bound(dtype, magnitude if fits else full_range(dtype))
    wide = dtypes.float32 if dtype.bits < 32 else dtype
    if error or not holds_exactly(wide, magnitude, grain):
        error += (count + 1) * unit_roundoff(wide) * magnitude
    made = rounded(dtype, magnitude, error, grain)
    return made if made.fits else None


def join(a: Bound, b: Bound) -> Bound:
    """Either of two values of one dtype."""
    return Bound(a.dtype, max(a.magnitude, b.magnitude), max(a.error, b.error), min(a.grain, b.grain))


def with_dtype(value: Bound, dtype: DType) -> Bound:
    return replace(value, dtype=dtype)
