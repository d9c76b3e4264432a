"""Packed conversions."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.intrin.nvidia.compiled_text import TARGETS, compile_for
from tests.intrin.nvidia.simulated_call import CallOnArrays
from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype
from tilewright.errors import CompilerBug
from tilewright.intrin.nvidia.convert import all_conversions, convert
from tilewright.ir.instruction import Array
from tilewright.target.nvidia import NvidiaTarget

E4M3, E5M2 = as_dtype("float8_e4m3fn"), as_dtype("float8_e5m2")


def _converted(source: DType, target: DType, values: Array) -> Array:
    call = CallOnArrays(len(values), {"src": values})
    convert(source, target).simulate(call)
    return call.registers("dst")


def test_halves_are_rounded_to_nearest_even() -> None:
    values = np.array([[1.0, 1.0 + 2**-11], [65520.0, -(1.0 + 3 * 2**-11)]], np.float32)
    half = _converted(dtypes.float32, dtypes.float16, values)
    assert half.astype(float).tolist() == [[1.0, 1.0], [np.inf, -(1.0 + 2**-9)]]
    brain = _converted(dtypes.float32, dtypes.bfloat16, np.array([[1.0 + 2**-8, 1.0 + 3 * 2**-8]], np.float32))
    assert brain.astype(float).tolist() == [[1.0, 1.0 + 2**-6]]


@pytest.mark.parametrize("target, greatest", [(E4M3, 448.0), (E5M2, 57344.0)], ids=str)
def test_fp8_saturates_and_keeps_nan(target: DType, greatest: float) -> None:
    got = _converted(dtypes.float32, target, np.array([[1e9, -np.inf, np.nan, 1.0625]], np.float32))
    np.testing.assert_array_equal(got.astype(np.float32), [[greatest, -greatest, np.nan, 1.0]])


def test_fp8_to_half_is_exact() -> None:
    codes = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).reshape(64, 4)
    np.testing.assert_array_equal(_converted(E4M3, dtypes.float16, codes).astype(np.float32), codes.astype(np.float32))


def test_tf32_rounds_ties_away_from_zero() -> None:
    step = 2.0**-10
    values = np.array([1 + step / 2, -(1 + step / 2), 1 + step / 4, 1 + 3 * step / 2, np.inf, np.nan, 0.0], np.float32)[:, None]
    got = _converted(dtypes.float32, dtypes.tfloat32, values)[:, 0]
    np.testing.assert_array_equal(got, _converted(dtypes.tfloat32, dtypes.tfloat32, values)[:, 0])
    np.testing.assert_array_equal(got, np.array([1 + step, -(1 + step), 1, 1 + 2 * step, np.inf, np.nan, 0.0], np.float32))
    assert not np.any(got[:5].view(np.uint32) & 0x1FFF)


def test_other_pairs_are_faults_of_ours() -> None:
    with pytest.raises(CompilerBug, match="from float16 to float32"):
        convert(dtypes.float16, dtypes.float32)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_the_text_compiles(target: NvidiaTarget) -> None:
    assert compile_for(target, [c for c in all_conversions() if c.feature is None or target.has(c.feature)])
