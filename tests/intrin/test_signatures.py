"""Dtype rules of the catalogue, and what is said where they are broken."""

from __future__ import annotations

import pytest

from tilewright.dtypes import as_dtype
from tilewright.errors import TileTypeError
from tilewright.intrin.signatures import float_and_exponent, float_to_bool, integer, one_of, same_float


def kinds(*names: str) -> tuple:
    return tuple(as_dtype(name) for name in names)


def test_results() -> None:
    assert same_float("exp")(kinds("float16")) == "float16"
    assert same_float("pow")(kinds("float32x2", "float32x2")) == "float32x2"
    assert one_of("nextafter", "float32")(kinds("float32x4", "float32x4")) == "float32x4"
    assert float_to_bool("isnan")(kinds("bfloat16")) == "bool"
    assert float_and_exponent("ldexp")(kinds("float64", "int32")) == "float64"
    assert integer("popcount", is_int32=False)(kinds("uint8")) == "uint8"
    assert integer("clz", is_int32=True)(kinds("uint64")) == "int32"


@pytest.mark.parametrize(
    ("signature", "given"),
    [
        (same_float("pow"), ("float32", "float16")),
        (same_float("exp"), ("int32",)),
        (one_of("ieee_add_rz", "float32", "float64"), ("float16", "float16")),
        (float_to_bool("isnan"), ("int32",)),
        (float_and_exponent("ldexp"), ("float32", "float32")),
        (integer("clz", is_int32=True), ("float32",)),
        (integer("clz", is_int32=True), ("bool",)),
    ],
)
def test_other_dtypes_are_refused_by_name(signature, given: tuple[str, ...]) -> None:
    with pytest.raises(TileTypeError) as caught:
        signature(kinds(*given))
    assert caught.value.code == "math-dtype"
    assert f"got {' and '.join(given)}" in str(caught.value)
    assert "because: it takes" in str(caught.value)
