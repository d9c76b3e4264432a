"""Classification, signs, exponents, neighbours and bit counts against numpy, exactly."""

from __future__ import annotations

import numpy as np
import pytest

from tests.codegen.llvm.elementwise import Elementwise
from tests.codegen.llvm.math.accuracy import FEATURE_SETS, FLOATS, add_intrinsic, assert_accurate, one_argument, two_arguments
from tilewright.dtypes import as_dtype
from tilewright.intrin.math import MATH
from tilewright.target.cpu import Feature


def bits(values: np.ndarray) -> np.ndarray:
    return values.view(f"uint{values.itemsize * 8}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("features", FEATURE_SETS)
def test_copysign_also_moves_the_sign_of_nan(features: frozenset[Feature], dtype: str) -> None:
    assert_accurate(["copysign"], dtype, features)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite"])
def test_classification(name: str, dtype: str) -> None:
    kernels = Elementwise()
    add_intrinsic(kernels, name, [as_dtype(dtype)], frozenset(), 4)
    kernels.compile()
    values = one_argument(dtype)
    assert np.array_equal(kernels(name, values, output=np.dtype(np.bool_)), MATH[name].meaning(values))


@pytest.mark.parametrize("dtype", FLOATS)
def test_ldexp_rounds_once(dtype: str) -> None:
    kernels = Elementwise()
    add_intrinsic(kernels, "ldexp", [as_dtype(dtype), as_dtype("int32")], frozenset(), 4)
    kernels.compile()
    random = np.random.default_rng(1)
    values = one_argument(dtype)[:: 7 if dtype == "float32" else 1]
    with np.errstate(invalid="ignore"):
        to_subnormal = -np.frexp(values)[1] - (1070 if dtype == "float64" else 145)
    for exponents in (
        random.integers(-2200, 2200, len(values), np.int32),
        random.integers(-200, 200, len(values), np.int32),
        random.integers(-(2**31), 2**31 - 1, len(values), np.int32),
        to_subnormal.astype(np.int32),
    ):
        got, want = kernels("ldexp", values, exponents, output=values.dtype), MATH["ldexp"].meaning(values, exponents)
        assert np.array_equal(bits(got)[~np.isnan(want)], bits(want)[~np.isnan(want)])
        assert np.isnan(got[np.isnan(want)]).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("features", FEATURE_SETS)
def test_nextafter_walks_the_grid_of_its_dtype(features: frozenset[Feature], dtype: str) -> None:
    kind = as_dtype(dtype)
    kernels = Elementwise()
    add_intrinsic(kernels, "nextafter", [kind, kind], features, 4)
    kernels.compile()
    if kind.bits == 16:
        x = np.arange(1 << 16, dtype=np.uint16).view(kind.numpy)
        y = np.random.default_rng(2).permutation(x)
        x, y = np.concatenate([x, x, x]), np.concatenate([y, -x, x])
    else:
        x, y = two_arguments(dtype)
    raw = (bits(x), bits(y)) if kind.bits == 16 else (x, y)
    got = kernels("nextafter", *raw, output=raw[0].dtype).view(kind.numpy)
    want = MATH["nextafter"].meaning(x, y)
    is_nan = np.isnan(want.astype(np.float64))
    assert np.array_equal(bits(got)[~is_nan], bits(want)[~is_nan])
    assert np.isnan(got[is_nan].astype(np.float64)).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "int4", "uint4"])
@pytest.mark.parametrize("name", ["popcount", "clz"])
def test_bit_counts(name: str, dtype: str) -> None:
    kind = as_dtype(dtype)
    kernels = Elementwise()
    add_intrinsic(kernels, name, [kind], frozenset(), 4)
    kernels.compile()
    width = max(8, kind.bits)
    raw = np.random.default_rng(4).integers(0, 2**width - 1, 4000, np.uint64, endpoint=True) >> np.arange(4000, dtype=np.uint64) % np.uint64(width)
    raw = np.append(raw, np.array([0, 2**width - 1], np.uint64)).astype(f"uint{width}")
    if kind.is_packed:
        raw &= 15
        values = raw.astype(kind.numpy) if not kind.is_signed else ((raw.astype(np.int8) ^ 8) - 8).astype(kind.numpy)
    else:
        values = raw.view(kind.numpy)
    result = MATH[name].result((kind,))
    got = kernels(name, raw, output=np.dtype(np.int32) if name == "clz" else raw.dtype)
    want = MATH[name].meaning(values)
    assert want.dtype == result.numpy
    # A count in int4 wraps: four bits set is -4 there, and 4 in storage.
    assert np.array_equal(got.astype(np.int64) & 15 if kind.is_packed else got.astype(np.int64), want.astype(np.int64) & (15 if kind.is_packed else -1))
