"""Functions: each one's meaning with the C library of this machine in the place of CUDA's, and NVRTC's opinion of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.codegen.cuda.host_cpp import needs_host_compiler
from tests.codegen.cuda.nvrtc_checks import compiles, needs_nvrtc
from tests.codegen.cuda.test_expressions import FLOATS, INTEGERS, on_host, outputs, same, samples
from tests.codegen.cuda.thread_programs import BLOCK, at, program, seq, store, tensor
from tilewright import dtypes
from tilewright.codegen.cuda.options import CudaOptions
from tilewright.codegen.cuda.program import emit_program
from tilewright.dtypes import DType, as_dtype
from tilewright.errors import TileError
from tilewright.intrin.math import FAST, MATH
from tilewright.ir.expr import Expr, call, cast
from tilewright.ir.intrinsic import Intrinsic
from tilewright.target.nvidia import SM_80


def call_of(intrinsic: Intrinsic, operands: list[Expr]) -> Expr | None:
    """The call where the dtype is one that the function takes."""
    arguments = operands[: intrinsic.arity]
    if intrinsic.name == "ldexp":
        arguments[1] = cast(cast(operands[1], dtypes.int8), dtypes.int32)
    try:
        return call(intrinsic, *arguments)
    except TileError:
        return None


def distance(found: Any, expected: Any, dtype: DType) -> Any:
    """In units of the last place."""
    with np.errstate(all="ignore"):
        wide, other = found.astype(np.float64), expected.astype(np.float64)
        one = np.spacing(np.abs(expected)).astype(np.float64)
        is_same = (wide == other) | (np.isnan(wide) & np.isnan(other))
        return np.where(is_same, 0.0, np.abs(wide - other) / one)


@needs_host_compiler
@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn"])
def test_functions_of_floats(name: str, tmp_path: Path) -> None:
    dtype = as_dtype(name)
    random = np.random.default_rng(3)
    with np.errstate(all="ignore"):
        x, y, z = (np.concatenate([samples(dtype, seed), random.normal(0, 3, 200).astype(dtype.numpy)]) for seed in range(3))
    y = np.roll(y, 7)
    tensors = [tensor(n, dtype, len(x)) for n in "abc"]
    operands = [at(t, BLOCK) for t in tensors]
    calls = [(i, made) for i in MATH.values() if (made := call_of(i, operands)) is not None]
    assert len(calls) > (40 if dtype.bits > 8 else 35)
    pairs = outputs(list(zip(tensors, (x, y, z), strict=True)), [made for _, made in calls], on_host(tmp_path))
    for (intrinsic, made), (found, expected) in zip(calls, pairs, strict=True):
        if intrinsic.ulp == 0:
            same(found, expected, made.dtype, str(made))
        else:
            bound = intrinsic.ulp * (2 if dtype.bits == 64 else 1) if dtype.bits >= 32 else 1
            assert np.nanmax(distance(found, expected, dtype)) <= bound, str(made)


@needs_host_compiler
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_functions_of_integers(dtype: DType, tmp_path: Path) -> None:
    x = samples(dtype)
    a = tensor("a", dtype, len(x))
    results = [call(MATH[n], at(a, BLOCK)) for n in ("popcount", "clz")]
    for result, (found, expected) in zip(results, outputs([(a, x)], results, on_host(tmp_path)), strict=True):
        same(found, expected, result.dtype, str(result))


@needs_nvrtc
@pytest.mark.parametrize("is_fast", [False, True])
def test_all_functions_compile(is_fast: bool) -> None:
    for dtypes_ in ([d for d in FLOATS if d.bits > 8], [*[d for d in FLOATS if d.bits <= 8][:2], *INTEGERS]):
        tensors = {d: [tensor(f"{n}_{d!s}", d, 64) for n in "abc"] for d in dtypes_}
        results = []
        for dtype in dtypes_:
            calls = (call_of(i, [at(t, BLOCK) for t in tensors[dtype]]) for i in MATH.values() if dtype.is_float or i.arity == 1)
            results += [made for made in calls if made is not None]
            results += [call(i, at(tensors[dtype][0], BLOCK)) for i in FAST.values() if dtype.is_float]
        targets = [tensor(f"out{n}", result.dtype, 64) for n, result in enumerate(results)]
        body = seq(*(store(t, BLOCK, r) for t, r in zip(targets, results, strict=True)))
        compiles(program([*(t for row in tensors.values() for t in row), *targets], body, grid=(64,)), CudaOptions(is_fast_math=is_fast))


def test_fast_math_takes_the_approximations_of_float32() -> None:
    a, b, c = tensor("a", dtypes.float32, 8), tensor("b", dtypes.float32, 8), tensor("c", dtypes.float64, 8)
    body = seq(store(b, BLOCK, call(MATH["exp"], at(a, BLOCK)) / at(b, BLOCK)), store(c, BLOCK, call(MATH["exp"], at(c, BLOCK))))
    plain, fast = (emit_program(program([a, b, c], body, grid=(8,)), SM_80, CudaOptions(is_fast_math=f)).text for f in (False, True))
    assert "b[bx] = expf(a[bx]) / b[bx];" in plain and "c[bx] = exp(c[bx]);" in plain
    assert "b[bx] = __fdividef(tw_fast_expf(a[bx]), b[bx]);" in fast and "c[bx] = exp(c[bx]);" in fast


def test_one_approximation_can_be_asked_for_by_name() -> None:
    a, c = tensor("a", dtypes.float32, 8), tensor("c", dtypes.float64, 8)
    body = seq(store(a, BLOCK, call(FAST["sin"], call(MATH["exp"], at(a, BLOCK)))), store(c, BLOCK, call(FAST["sin"], at(c, BLOCK))))
    text = emit_program(program([a, c], body, grid=(8,)), SM_80).text
    assert "a[bx] = __sinf(expf(a[bx]));" in text and "c[bx] = sin(c[bx]);" in text


@needs_host_compiler
def test_sigmoid_is_within_its_bound_everywhere(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = np.concatenate(
        [random.normal(0, scale, 3000) for scale in (1e-3, 0.3, 1.0, 4.0, 30.0)] + [random.uniform(-110, 0, 5000), [0.0, -0.0, np.inf, -np.inf, -103.0]]
    )
    x = np.append(x, np.nan).astype(np.float32)
    a = tensor("a", dtypes.float32, len(x))
    ((found, expected),) = outputs([(a, x)], [call(MATH["sigmoid"], at(a, BLOCK))], on_host(tmp_path))
    assert np.max(distance(found, expected, dtypes.float32)) <= 1
