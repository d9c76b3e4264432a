"""C types and literals."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest

from tilewright import dtypes
from tilewright.codegen.cfamily.types import float_literal, integer_literal, literal, refuse_vector_dtype, storage_type, stored_literal, value_type
from tilewright.dtypes import as_dtype
from tilewright.errors import TileError
from tilewright.ir.expr import var


def test_types_in_registers_and_in_memory() -> None:
    rows = {
        "bool": ("bool", "unsigned char"),
        "int4": ("signed char", "unsigned char"),
        "int8": ("signed char", "signed char"),
        "uint32": ("unsigned", "unsigned"),
        "int64": ("long long", "long long"),
        "float16": ("float", "unsigned short"),
        "float8_e5m2": ("float", "unsigned char"),
        "tfloat32": ("float", "float"),
        "float64": ("double", "double"),
        "handle": ("unsigned long long", "unsigned long long"),
    }
    assert {name: (value_type(as_dtype(name)), storage_type(as_dtype(name))) for name in rows} == rows


def test_integers() -> None:
    assert str(integer_literal(-(1 << 31))) == "(-2147483647 - 1)"
    assert str(literal(-(1 << 63), dtypes.int64)) == "(-9223372036854775807ll - 1)"
    assert [str(literal(7, as_dtype(n))) for n in ("int8", "uint8", "int32", "uint32", "int64", "uint64")] == ["7", "7", "7", "7u", "7ll", "7ull"]


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 0.1, 1e-45, 3.4028235e38, 16777216.0, 1e9, 123456.7, 1e-4, 2.5e-5, -1.5])
def test_floats_are_read_back_exactly(value: float) -> None:
    single = float(np.float32(value))
    text = str(float_literal(single, is_double=False))
    assert text.endswith("f") and ("." in text or "e" in text)
    parsed = ctypes.c_float(float(text[:-1])).value
    assert parsed == single and math.copysign(1, parsed) == math.copysign(1, single)
    assert float(str(float_literal(value, is_double=True))) == value


def test_what_is_no_number_is_given_by_its_bits() -> None:
    assert str(literal(math.inf, dtypes.float32)) == "__int_as_float(0x7f800000)"
    assert str(literal(-math.inf, dtypes.float64)) == "-__longlong_as_double(0x7ff0000000000000ll)"
    assert "0x7fc00000" in str(literal(math.nan, dtypes.float16))
    assert str(stored_literal(1.0, dtypes.float16)) == "0x3c00"


def test_vector_dtypes_are_refused() -> None:
    refuse_vector_dtype(var("x"), dtypes.float32)
    with pytest.raises(TileError, match="float32x4"):
        refuse_vector_dtype(var("x"), as_dtype("float32x4"))
