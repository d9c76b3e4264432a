"""What products are computed in."""

from __future__ import annotations

import pytest

from tilewright.dtypes import as_dtype
from tilewright.ops.gemm.numerics import compute_dtype


@pytest.mark.parametrize(
    "operand, accumulator, expected",
    [
        ("float16", "float32", "float32"),
        ("float16", "float16", "float32"),
        ("float8_e4m3fn", "bfloat16", "float32"),
        ("float16", "float64", "float64"),
        ("float64", "float32", "float64"),
        ("int8", "int32", "int32"),
        ("uint8", "uint32", "uint32"),
        ("int8", "int64", "int64"),
    ],
)
def test_narrow_floats_are_summed_in_float32(operand: str, accumulator: str, expected: str) -> None:
    assert compute_dtype(as_dtype(operand), as_dtype(accumulator)) == expected
