"""Element types: names, widths, ranges, every spelling that means one, promotion."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright.language as T
from tilewright.dtypes import SCALAR_DTYPES, DType, DTypeKind, as_dtype, promote

FLOATS = [d for d in SCALAR_DTYPES if d.is_float]


def test_a_dtype_is_a_string() -> None:
    assert (
        T.float16 == "float16" and f"{T.float16}" == "float16" and {"float16": 1}[T.float16] == 1 and T.float16.startswith("float") and repr(T.int8) == "T.int8"
    )


def test_there_is_one_object_per_dtype() -> None:
    for dtype in (*SCALAR_DTYPES, as_dtype("float16x4")):
        assert as_dtype(str(dtype)) is dtype and pickle.loads(pickle.dumps(dtype)) is dtype and copy.deepcopy(dtype) is dtype


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("half", "float16"),
        ("float", "float32"),
        ("double", "float64"),
        ("short", "int16"),
        ("int", "int32"),
        ("long", "int64"),
        ("uint", "uint32"),
        ("bf16", "bfloat16"),
        (bool, "bool"),
        (int, "int32"),
        (float, "float32"),
        (np.float16, "float16"),
        (np.dtype("uint8"), "uint8"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (np.dtype(ml_dtypes.float8_e4m3fn), "float8_e4m3fn"),
        (np.float32, "float32"),
        (np.uint64, "uint64"),
        (np.bool_, "bool"),
        (T.int4, "int4"),
        ("float8_e4m3fnx8", "float8_e4m3fnx8"),
    ],
)
def test_spellings(value: Any, name: str) -> None:
    assert as_dtype(value) is as_dtype(name)


@pytest.mark.parametrize(
    "value",
    ["float17", "", "float16x3", "x4", "float16x", None, 3, 2.5, [1], object(), np.complex64, np.datetime64, np.zeros(2)],
)
def test_what_is_no_dtype(value: Any) -> None:
    with pytest.raises(ValueError, match=r"dtype|counterpart"):
        as_dtype(value)


@pytest.mark.parametrize("dtype", SCALAR_DTYPES, ids=str)
def test_widths_agree_with_numpy(dtype: DType) -> None:
    assert dtype.itemsize == dtype.numpy.itemsize == dtype.bytes and dtype.lanes == 1 and dtype.scalar is dtype
    assert dtype.storage_bits == (4 if dtype.is_packed else 8 * dtype.numpy.itemsize)
    assert [dtype.is_float, dtype.is_integer, dtype.is_bool, dtype.kind is DTypeKind.HANDLE].count(True) == 1


@pytest.mark.parametrize("dtype", [d for d in FLOATS if d != "tfloat32"], ids=str)
def test_float_formats(dtype: DType) -> None:
    info = ml_dtypes.finfo(dtype.numpy)
    assert (dtype.minimum, dtype.maximum) == (float(info.min), float(info.max)) and dtype.mantissa_bits == info.nmant
    assert dtype.bits == dtype.mantissa_bits + dtype.exponent_bits + (dtype != "float8_e8m0fnu")
    with np.errstate(all="ignore"):
        assert dtype.has_infinity == bool(np.isinf(np.array([np.inf], np.float32).astype(dtype.numpy).astype(np.float32))[0])
    one = np.array(1, dtype.numpy).view(f"u{dtype.itemsize}")
    above = (one + one.dtype.type(1)).view(dtype.numpy).astype(np.float64)
    assert above - 1 == 2.0**-dtype.mantissa_bits


@pytest.mark.parametrize("dtype", [d for d in SCALAR_DTYPES if d.is_integer], ids=str)
def test_integer_ranges(dtype: DType) -> None:
    info = ml_dtypes.iinfo(dtype.numpy)
    assert (dtype.minimum, dtype.maximum) == (int(info.min), int(info.max)) and dtype.is_signed is (dtype.minimum < 0) and not dtype.has_infinity


def test_bools_and_handles() -> None:
    assert (T.bool.minimum, T.bool.maximum, T.bool.itemsize) == (0, 1, 1) and not T.bool.is_integer and not T.bool.has_infinity
    assert T.handle.itemsize == 8


def test_vectors() -> None:
    pair = as_dtype("float16x2")
    assert (pair.lanes, pair.scalar, pair.itemsize, pair.bits) == (2, T.float16, 4, 16) and T.float16.with_lanes(2) is pair and pair.with_lanes(1) is T.float16
    assert as_dtype("int4x8").storage_bits == 32 and as_dtype("boolx4").itemsize == 4


def test_torch_counterparts() -> None:
    torch = pytest.importorskip("torch")
    assert getattr(torch, T.float16) is torch.float16
    for name in ("float16", "bfloat16", "int8", "bool", "float8_e5m2"):
        assert as_dtype(getattr(torch, name)) is as_dtype(name)
    for dtype in SCALAR_DTYPES:
        if hasattr(torch, dtype) or dtype in ("tfloat32", "int4", "uint4", "float4_e2m1fn"):
            found = dtype.as_torch()
            assert isinstance(found, torch.dtype) and found.itemsize == dtype.itemsize
    for value in (torch.complex64, torch.zeros(2)):
        with pytest.raises(ValueError, match=r"dtype|counterpart"):
            as_dtype(value)


def test_promotion_of_every_pair() -> None:
    numbers = [d for d in SCALAR_DTYPES if d.kind is not DTypeKind.HANDLE]
    for a in numbers:
        for b in numbers:
            common = promote(a, b)
            assert common is promote(b, a) and common in (a, b)
            if a.is_float != b.is_float:
                assert common is (a if a.is_float else b)
            elif a.is_bool != b.is_bool:
                assert common is (b if a.is_bool else a)
            elif a.bits != b.bits:
                assert common is (a if a.bits > b.bits else b)
            elif a.is_integer:
                assert common is a if a is b else not common.is_signed
            else:
                assert common.mantissa_bits == max(a.mantissa_bits, b.mantissa_bits)
