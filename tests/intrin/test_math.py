"""The meaning of the math functions: dtypes, special values, and agreement with plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tilewright.dtypes import DType, as_dtype
from tilewright.intrin.math import MATH

PYTHON = {
    "exp": math.exp,
    "exp2": lambda x: 2.0**x,
    "exp10": lambda x: 10.0**x,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "log1p": math.log1p,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "asinh": math.asinh,
    "acosh": math.acosh,
    "atanh": math.atanh,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "erf": math.erf,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "round": round,
    "nearbyint": round,
    "pow": math.pow,
    "fmod": math.fmod,
    "atan2": math.atan2,
    "hypot": math.hypot,
    "copysign": math.copysign,
}
UNIT_INTERVAL = {"asin", "acos", "atanh"}
FROM_ONE = {"acosh"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e5m2", "float32", "float64"])
@pytest.mark.parametrize("name", PYTHON)
def test_meaning_is_the_function_of_that_name(name: str, dtype: str) -> None:
    kind = as_dtype(dtype)
    points = np.linspace(0.1, 0.9, 9) if name in UNIT_INTERVAL else np.linspace(1.25, 5.5, 9) if name in FROM_ONE else np.linspace(0.25, 5.5, 22)
    x = points.astype(np.float32).astype(kind.numpy)
    operands = [x] if MATH[name].arity == 1 else [x, x[::-1]]
    got = MATH[name].meaning(*operands)
    assert got.dtype == kind.numpy
    want = np.array([PYTHON[name](*values) for values in zip(*(o.astype(np.float64).tolist() for o in operands), strict=True)], np.float64)
    if dtype == "float64":
        np.testing.assert_allclose(got, want, rtol=1e-15)
    else:
        with np.errstate(over="ignore"):
            assert np.array_equal(got, want.astype(np.float32).astype(kind.numpy))


def test_every_function_is_listed_under_its_name() -> None:
    assert all(name == intrinsic.name for name, intrinsic in MATH.items())
    assert set(PYTHON) < set(MATH)


def test_results_keep_the_shape() -> None:
    x = np.ones((2, 3), np.float32)
    for name in ("exp", "erf", "ieee_add_rz", "isnan", "fma"):
        assert MATH[name].meaning(*[x] * MATH[name].arity).shape == (2, 3)
    assert MATH["clz"].meaning(np.ones((2, 3), np.int32)).shape == (2, 3)


def test_special_values() -> None:
    inf, nan = np.float32(np.inf), np.float32(np.nan)
    one = {
        "exp": [(-inf, 0), (inf, inf)],
        "log": [(0, -inf), (inf, inf)],
        "sigmoid": [(-inf, 0), (inf, 1), (-100, np.float32(3.783506e-44))],
        "erf": [(inf, 1), (-inf, -1)],
        "rsqrt": [(0, inf), (inf, 0)],
        "round": [(0.5, 0), (1.5, 2), (2.5, 2)],
        "round_away": [(0.5, 1), (-2.5, -3), (0.49999997, 0), (8388609, 8388609)],
    }
    for name, cases in one.items():
        for x, want in cases:
            assert MATH[name].meaning(np.array([x], np.float32))[0] == want, name
    for name in ("log", "sqrt", "acosh", "asin"):
        assert np.isnan(MATH[name].meaning(np.array([-2], np.float32)))[0]
    assert np.isnan(MATH["exp"].meaning(np.array([nan])))[0]


def test_classification() -> None:
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        x = np.array([1.0, np.inf, -np.inf, np.nan], np.float32).astype(as_dtype(dtype).numpy)
        assert MATH["isnan"].meaning(x).tolist() == [False, False, False, True]
        assert MATH["isinf"].meaning(x).tolist() == [False, True, True, False]
        assert MATH["isfinite"].meaning(x).tolist() == [True, False, False, False]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "int4", "uint4"])
def test_bit_counts(dtype: str) -> None:
    kind: DType = as_dtype(dtype)
    numbers = sorted({int(kind.minimum), int(kind.maximum), 0, 1, 5, 7})
    x = np.array(numbers, object).astype("uint64" if dtype == "uint64" else "int64").astype(kind.numpy)
    patterns = [format(number % (1 << kind.bits), f"0{kind.bits}b") for number in numbers]
    assert MATH["clz"].meaning(x).tolist() == [len(p) - len(p.lstrip("0")) for p in patterns]
    counts = np.array([p.count("1") for p in patterns], np.int64).astype(kind.numpy)
    assert np.array_equal(MATH["popcount"].meaning(x), counts)
    assert MATH["popcount"].result((kind,)) == dtype


def test_exponents_and_neighbours() -> None:
    x = np.array([1.5, -1.5, 1.0], np.float32)
    assert MATH["ldexp"].meaning(x, np.array([3, -1, -150], np.int32)).tolist() == [12.0, -0.75, 0.0]
    assert MATH["nextafter"].meaning(x, np.array([2, 0, 1], np.float32)).tolist() == [1.5 + 2**-23, -1.5 + 2**-23, 1.0]
    half = np.array([1.0], np.float16)
    assert MATH["nextafter"].meaning(half, half + np.float16(1))[0] == 1 + 2**-10


def test_fma_rounds_once() -> None:
    a = np.array([1 + 2.0**-12], np.float32)
    assert MATH["fma"].meaning(a, a, -(a * a))[0] == 2.0**-24
