"""Conversions: which instruction or helper does them; what they give is in test_expressions.py, and tests/gpu on hardware."""

from __future__ import annotations

from tilewright import dtypes
from tilewright.codegen.cfamily.prelude import Prelude
from tilewright.codegen.cfamily.text import atom
from tilewright.codegen.cuda.convert import Conversions
from tilewright.dtypes import as_dtype
from tilewright.ir.expr import Rounding
from tilewright.target.nvidia import SM_80, SM_89

X = atom("x")
E4M3 = as_dtype("float8_e4m3fn")


def test_8_bit_floats_use_hardware_where_it_is() -> None:
    for target, has_instruction in ((SM_80, False), (SM_89, True)):
        prelude = Prelude()
        conversions = Conversions(target, prelude)
        conversions.to_storage(X, E4M3)
        conversions.from_storage(X, E4M3)
        assert ("e4m3x2" in prelude.text()) is has_instruction


def test_a_rounding_direction_has_its_own_helper() -> None:
    prelude = Prelude()
    conversions = Conversions(SM_80, prelude)
    assert str(conversions.to_storage(X, dtypes.float16, Rounding.UP)) == "tw_float16_of_float_ru(x)"
    assert "cvt.rp.f16.f32" in prelude.text()
    assert str(conversions.convert(X, dtypes.float64, dtypes.float32, Rounding.DOWN)) == "__double2float_rd(x)"
    assert str(conversions.convert(X, dtypes.int64, dtypes.float32, Rounding.TOWARD_ZERO)) == "__ll2float_rz(x)"


def test_values_that_every_float16_holds_are_not_rounded() -> None:
    conversions = Conversions(SM_80, Prelude())
    assert str(conversions.convert(X, as_dtype("float8_e5m2"), dtypes.float16)) == "x"
    assert str(conversions.convert(X, as_dtype("float8_e8m0fnu"), dtypes.float16)) != "x"
    assert str(conversions.convert(X, dtypes.bfloat16, dtypes.float32)) == "x"


def test_narrow_integers_wrap_without_helpers() -> None:
    conversions = Conversions(SM_80, Prelude())
    assert str(conversions.convert(X, dtypes.int32, dtypes.int8)) == "(signed char)x"
    assert str(conversions.convert(X, dtypes.int32, dtypes.uint4)) == "(unsigned char)(x & 15)"
    assert str(conversions.convert(X, dtypes.bool_, dtypes.int64)) == "(long long)x"
