"""Conversions and operations on hardware: all codes of up to 16 bits, to every dtype, against numpy and ml_dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.codegen.cuda.test_expressions import ALL, ARITHMETIC, BITWISE, DIVISIONS, FLOATS, INTEGERS, WITHOUT_NAN, cast_samples, outputs, pairs_of, same
from tests.codegen.cuda.thread_programs import BLOCK, at, tensor
from tests.gpu.device import device_targets, needs_gpu, run_on_gpu
from tilewright.dtypes import DType, as_dtype
from tilewright.ir import expr as e
from tilewright.ir.expr import Op, Rounding

pytestmark = needs_gpu


@pytest.mark.parametrize("source", ALL, ids=str)
def test_casts(source: DType) -> None:
    x = cast_samples(source)
    whole = x[~np.isnan(x.astype(np.float64))]
    for target in device_targets():
        a = tensor("a", source, len(x))
        results = [e.cast(at(a, BLOCK), d) for d in ALL if d not in (source, *WITHOUT_NAN)]
        for result, (found, expected) in zip(results, outputs([(a, x)], results, run_on_gpu, target), strict=True):
            same(found, expected, result.dtype, f"{result} on {target.name}")
        b = tensor("b", source, len(whole))
        results = [e.cast(at(b, BLOCK), d) for d in WITHOUT_NAN if d != source]
        for result, (found, expected) in zip(results, outputs([(b, whole)], results, run_on_gpu, target), strict=True):
            same(found, expected, result.dtype, f"{result} on {target.name}")


@pytest.mark.parametrize("rounding", [Rounding.TOWARD_ZERO, Rounding.UP, Rounding.DOWN])
@pytest.mark.parametrize("source", ["float64", "float32", "float16", "int32", "uint32"])
def test_casts_in_a_direction(source: str, rounding: Rounding) -> None:
    dtype = as_dtype(source)
    x = cast_samples(dtype)
    x = x[~np.isnan(x.astype(np.float64))]
    targets = [d for d in FLOATS if d.bits < dtype.bits and d != "float8_e8m0fnu"]
    for target in device_targets():
        a = tensor("a", dtype, len(x))
        results = [e.cast(at(a, BLOCK), d, rounding) for d in targets]
        for result, (found, expected) in zip(results, outputs([(a, x)], results, run_on_gpu, target), strict=True):
            same(found, expected, result.dtype, f"{result} on {target.name}")


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
def test_operations(dtype: DType) -> None:
    x, y = pairs_of(dtype)
    if dtype.is_integer:  # where the quotient does not fit, or there is none, nothing is promised
        is_defined = (y != 0) & ~((x == dtype.numpy.type(int(dtype.minimum))) & (y.astype(np.int64) == -1 if dtype.is_signed else False))
        x, y = x[is_defined], y[is_defined]
    target = device_targets()[0]
    a, b = tensor("a", dtype, len(x)), tensor("b", dtype, len(x))
    left, right = at(a, BLOCK), at(b, BLOCK)
    extrema = (Op.MIN, Op.MAX)
    results = [e.binary(op, left, right) for op in [*ARITHMETIC, *DIVISIONS, Op.EQ, Op.NE, Op.LT, Op.LE, *(BITWISE if dtype.is_integer else [])]]
    results += [-left] if dtype.is_integer else [-left, e.divide(left, right)]
    for result, (found, expected) in zip(results, outputs([(a, x), (b, y)], results, run_on_gpu, target), strict=True):
        if dtype.is_float and result.op in extrema:  # of zeros of both signs either may be the least
            found, expected = (np.where(v == 0, np.zeros((), v.dtype), v) for v in (found, expected))
        same(found, expected, result.dtype, str(result))
