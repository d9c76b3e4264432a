"""The catalogue of math functions (floor 3): what each means on numpy arrays, and how far a back end may be off.

A float32 result is computed in float64 and rounded; narrower floats are computed as float32 and rounded again. `ulp` bounds the error in float32;
in float64 it may be twice as much, and what is within the bound in float32 is within one unit of a narrower dtype. Of a NaN only that it is one
counts: the sign that copysign takes from it is either. Integer arguments are converted by the language, not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright.dtypes import as_dtype
from tilewright.intrin.ieee import IEEE
from tilewright.intrin.signatures import Signature, float_and_exponent, float_to_bool, integer, one_of, same_float
from tilewright.ir.intrinsic import Intrinsic

Array = np.ndarray[Any, np.dtype[Any]]


def _rounded(values: Array, like: np.dtype[Any]) -> Array:
    if like == np.float64:
        return values
    return values.astype(np.float32).astype(like)


def _in_float64(function: Callable[..., Any]) -> Callable[..., Array]:
    """Arguments of one dtype widened, the result rounded back to it."""

    def meaning(*arrays: Any) -> Array:
        given = [np.asarray(a) for a in arrays]
        with np.errstate(all="ignore"):
            return _rounded(np.asarray(function(*(a.astype(np.float64) for a in given))), given[0].dtype)

    return meaning


def _test(function: Callable[[Array], Any]) -> Callable[..., Array]:
    def meaning(x: Any) -> Array:
        array = np.asarray(x)
        return np.asarray(function(array.astype(np.float64) if array.dtype.itemsize < 4 else array))

    return meaning


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1.0 + small))


def _round_away(x: Array) -> Array:
    whole = np.trunc(x)
    return np.asarray(np.copysign(whole + np.copysign(np.abs(x - whole) >= 0.5, x), x))


def _nextafter(x: Any, toward: Any) -> Array:
    """In the dtype's own grid; of equal numbers, zeros of both signs among them, the second."""
    a, b = np.asarray(x), np.asarray(toward)
    with np.errstate(all="ignore"):
        return np.asarray(np.where(a == b, b, np.nextafter(a, b)))


def _ldexp(x: Any, exponent: Any) -> Array:
    array, power = np.asarray(x), np.asarray(exponent)
    with np.errstate(all="ignore"):
        return _rounded(np.ldexp(array.astype(np.float64), power), array.dtype)


def _unsigned(x: Any) -> tuple[Array, int]:
    """The bits as uint64, and how many there are."""
    array = np.asarray(x)
    bits = as_dtype(array.dtype).bits
    if bits == 4:
        array = array.astype(np.int8)
    return array.astype(np.int64).astype(np.uint64) & np.uint64((1 << bits) - 1) if array.dtype != np.uint64 else array, bits


def _popcount(x: Any) -> Array:
    rest, bits = _unsigned(x)
    count = np.zeros(rest.shape, np.int64)
    for position in range(bits):
        count += (rest >> np.uint64(position) & np.uint64(1)).astype(np.int64)
    return count.astype(np.asarray(x).dtype)


def _count_leading_zeros(x: Any) -> Array:
    rest, bits = _unsigned(x)
    length = np.zeros(rest.shape, np.int32)
    for step in (32, 16, 8, 4, 2, 1):
        upper = rest >> np.uint64(step)
        length += np.where(upper != 0, step, 0).astype(np.int32)
        rest = np.where(upper != 0, upper, rest)
    return np.asarray(bits - length - (rest != 0), np.int32)


def _float_function(name: str, arity: int, ulp: float, function: Callable[..., Any]) -> Intrinsic:
    return Intrinsic(name, arity, same_float(name), _in_float64(function), ulp=ulp)


def _other(name: str, arity: int, signature: Signature, meaning: Callable[..., Array]) -> Intrinsic:
    return Intrinsic(name, arity, signature, meaning)


_FLOAT_FUNCTIONS: tuple[tuple[str, int, float, Callable[..., Any]], ...] = (
    ("exp", 1, 2, np.exp),
    ("exp2", 1, 2, np.exp2),
    ("exp10", 1, 2, lambda x: np.power(10.0, x)),
    ("log", 1, 2, np.log),
    ("log2", 1, 2, np.log2),
    ("log10", 1, 2, np.log10),
    ("log1p", 1, 2, np.log1p),
    ("sin", 1, 2, np.sin),
    ("cos", 1, 2, np.cos),
    ("tan", 1, 4, np.tan),
    ("asin", 1, 4, np.arcsin),
    ("acos", 1, 4, np.arccos),
    ("atan", 1, 4, np.arctan),
    ("sinh", 1, 4, np.sinh),
    ("cosh", 1, 4, np.cosh),
    ("tanh", 1, 2, np.tanh),
    ("asinh", 1, 4, np.arcsinh),
    ("acosh", 1, 4, np.arccosh),
    ("atanh", 1, 4, np.arctanh),
    ("sqrt", 1, 0, np.sqrt),
    ("rsqrt", 1, 2, lambda x: 1.0 / np.sqrt(x)),
    ("erf", 1, 2, np.vectorize(math.erf, otypes=[np.float64])),
    ("sigmoid", 1, 2, _sigmoid),
    ("floor", 1, 0, np.floor),
    ("ceil", 1, 0, np.ceil),
    ("trunc", 1, 0, np.trunc),
    ("round", 1, 0, np.rint),
    ("round_away", 1, 0, _round_away),
    ("nearbyint", 1, 0, np.rint),
    ("pow", 2, 4, np.power),
    ("fmod", 2, 0, np.fmod),
    ("atan2", 2, 4, np.arctan2),
    ("hypot", 2, 4, np.hypot),
    ("copysign", 2, 0, np.copysign),
)

MATH: dict[str, Intrinsic] = {
    **{row[0]: _float_function(*row) for row in _FLOAT_FUNCTIONS},
    "ldexp": _other("ldexp", 2, float_and_exponent("ldexp"), _ldexp),
    "nextafter": _other("nextafter", 2, one_of("nextafter", "float16", "bfloat16", "float32", "float64"), _nextafter),
    "fma": _other("fma", 3, same_float("fma"), IEEE["ieee_fmaf_rn"].meaning),
    "isnan": _other("isnan", 1, float_to_bool("isnan"), _test(np.isnan)),
    "isinf": _other("isinf", 1, float_to_bool("isinf"), _test(np.isinf)),
    "isfinite": _other("isfinite", 1, float_to_bool("isfinite"), _test(np.isfinite)),
    "popcount": _other("popcount", 1, integer("popcount", is_int32=False), _popcount),
    "clz": _other("clz", 1, integer("clz", is_int32=True), _count_leading_zeros),
    **IEEE,
}

# `T.__exp` and its like: the same functions, of which a GPU may take its approximation in float32, whatever the error (so `ulp` is no bound).
FAST: dict[str, Intrinsic] = {
    name: Intrinsic(f"__{name}", 1, same_float(f"__{name}"), MATH[name].meaning, ulp=math.inf)
    for name in ("exp", "exp10", "log", "log2", "log10", "sin", "cos", "tan")
}
