"""How far the generated functions are from numpy's, in units of the last place."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from tests.codegen.llvm.elementwise import Elementwise
from tilewright.codegen.llvm.convert import from_storage, storage_type, to_storage
from tilewright.codegen.llvm.emitter import Function, Value
from tilewright.codegen.llvm.math import emit_intrinsic
from tilewright.dtypes import DType, as_dtype
from tilewright.intrin.math import MATH
from tilewright.target.cpu import Feature, host_target

FEATURE_SETS = [pytest.param(frozenset[Feature](), id="portable"), pytest.param(host_target().features, id="host")]
FLOATS = ["float32", "float64"]
SPECIAL = [0.0, 1.0, 0.5, 2.0, 3.0, 1e-3, 1.5, 2.5, 88.0, 710.0, 1e6, 1e19, 3e38, 1e-38, 1e-44, math.inf]


def add_intrinsic(kernels: Elementwise, name: str, dtypes: Sequence[DType], features: frozenset[Feature], lanes: int, label: str = "") -> None:
    """A function that applies the intrinsic to arrays in storage form."""
    intrinsic = MATH[name]
    result = intrinsic.result(tuple(dtypes))

    def body(f: Function, *loaded: Value) -> Value:
        values = [from_storage(f, value, dtype, features) for value, dtype in zip(loaded, dtypes, strict=True)]
        return to_storage(f, emit_intrinsic(f, intrinsic, values, dtypes, features), result, features)

    kernels.add(label or name, [storage_type(d) for d in dtypes], storage_type(result), lanes, body)


@functools.cache
def one_argument(dtype: str) -> np.ndarray:
    """Bit patterns across the whole type, dense stretches where functions bend, and special values."""
    t = np.dtype(dtype).type
    random = np.random.default_rng(3)
    if dtype == "float32":
        patterns = (np.arange(1 << 20, dtype=np.uint64) * 4099 + 17).astype(np.uint32).view(np.float32)
        count = 100_000
    else:
        patterns = random.integers(0, 2**64 - 1, 100_000, np.uint64, endpoint=True).view(np.float64)
        count = 25_000
    step = float(np.finfo(dtype).eps)
    parts = [
        np.array([s * v for v in SPECIAL for s in (1, -1)] + [np.nan]),
        patterns,
        1 + np.arange(-2000, 2000) * step / 2,
        random.uniform(-2, 2, count),
        random.uniform(-110, 110, count),
        random.uniform(-750, 750, count),
        2.0 ** random.uniform(-60, 60, count) * random.choice([-1, 1], count),
        np.arange(-3000, 3000) * (math.pi / 4),
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([p.astype(t) for p in parts])


@functools.cache
def two_arguments(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of special values, random patterns, and pairs of moderate and of similar size."""
    random = np.random.default_rng(5)
    special = np.array([s * v for v in SPECIAL for s in (1, -1)] + [np.nan])
    pairs = np.array(list(itertools.product(special, special)))
    integer = np.uint32 if dtype == "float32" else np.uint64
    patterns = random.integers(0, np.iinfo(integer).max, (40_000, 2), integer, endpoint=True).view(dtype)
    moderate = random.uniform(-20, 20, (40_000, 2))
    positive = np.stack([2.0 ** random.uniform(-30, 30, 40_000), random.uniform(-30, 30, 40_000)], axis=1)
    near_one = np.stack([1 + random.standard_normal(20_000) * 1e-3, random.standard_normal(20_000) * 1e5], axis=1)
    whole = np.stack([random.uniform(-9, 9, 10_000), random.integers(-9, 10, 10_000)], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        both = np.concatenate([p.astype(dtype) for p in (pairs, patterns, moderate, positive, near_one, whole)])
    return np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])


_LONG = {
    "exp10": lambda x: np.power(np.longdouble(10), x),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": lambda x: np.where(x >= 0, np.longdouble(1), np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x))),
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "pow": np.power,
}


def exact(name: str, *arrays: np.ndarray) -> np.ndarray:
    """More exact than the arguments' dtype: float64 for float32, the platform's long double for float64."""
    with np.errstate(all="ignore"):
        if arrays[0].dtype == np.float32 or name == "erf" or MATH[name].ulp == 0:
            return np.asarray(MATH[name].meaning(*(a.astype(np.float64) for a in arrays)))
        function = _LONG.get(name) or getattr(np, name)
        return np.asarray(function(*(a.astype(np.longdouble) for a in arrays)))


def error_ulp(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """|got - want| in units of the last place that `want` has in the dtype of `got`; infinite where only one of them is NaN or infinite."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
        exponent = np.maximum(np.frexp(np.where(np.isfinite(want), want, 1))[1] - 1, info.minexp)
        error = np.abs(got.astype(np.longdouble) - want) / np.ldexp(np.longdouble(1), exponent - info.nmant)
        is_same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        is_edge = np.isinf(got) & (np.abs(want) >= info.max) & (np.sign(got) == np.sign(want))
        error = np.where(is_same & ~np.isfinite(got) | is_edge, 0, error)
        return np.where(np.isnan(error), np.inf, error).astype(np.float64)


def assert_accurate(names: Sequence[str], dtype: str, features: frozenset[Feature]) -> None:
    """Every function stays within its declared error (twice that in float64) and gives zeros and results of the right sign."""
    kernels = Elementwise()
    kind = as_dtype(dtype)
    for name in names:
        add_intrinsic(kernels, name, [kind] * MATH[name].arity, features, 8 if dtype == "float32" else 4)
    kernels.compile()
    for name in names:
        arrays = (one_argument(dtype),) if MATH[name].arity == 1 else two_arguments(dtype)
        got = kernels(name, *arrays, output=np.dtype(dtype))
        want = exact(name, *arrays)
        with np.errstate(all="ignore"):
            rounded = want.astype(dtype)
        if MATH[name].ulp == 0:
            error = np.where((got == rounded) | (np.isnan(got) & np.isnan(rounded)), 0.0, np.inf)
        else:
            error = error_ulp(got, want)
        error = np.where(~np.isnan(rounded) & (np.signbit(got) != np.signbit(rounded)), np.inf, error)
        worst = int(np.argmax(error))
        bound = MATH[name].ulp * (1 if dtype == "float32" else 2)
        assert error[worst] <= bound, f"{name}({', '.join(repr(a[worst]) for a in arrays)}) = {got[worst]!r}, {error[worst]} ulp from {want[worst]!r}"
