"""Every operation on every dtype: printed, compiled for this machine, and compared with what the expression means."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.codegen.cuda.host_cpp import needs_host_compiler, run_on_host
from tests.codegen.cuda.nvrtc_checks import compiles, needs_nvrtc
from tests.codegen.cuda.thread_programs import BLOCK, at, program, seq, store, tensor
from tilewright import dtypes
from tilewright.arith.evaluate import evaluate
from tilewright.codegen.cuda.module import CudaModule
from tilewright.codegen.cuda.program import emit_program
from tilewright.codegen.float_format import float_format, is_power_format
from tilewright.dtypes import DType, as_dtype
from tilewright.ir import expr as e
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, Op, Rounding
from tilewright.target.nvidia import SM_80, NvidiaTarget

INTEGERS = [as_dtype(n) for n in ("int4", "uint4", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")]
FLOATS = [d for d in dtypes.SCALAR_DTYPES if d.is_float]
# NaN becomes a zero in these, of no particular sign.
WITHOUT_NAN = [d for d in FLOATS if not is_power_format(d) and d.bits < 16 and not float_format(d).has_nan]
ARITHMETIC = [Op.ADD, Op.SUB, Op.MUL, Op.MIN, Op.MAX]
DIVISIONS = [Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD]
BITWISE = [Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR]


# Runs a module on arrays by name, in place.
Runner = Callable[[CudaModule, dict[str, Any]], Any]


def on_host(folder: Path) -> Runner:
    return lambda module, arrays: run_on_host(module, arrays, {}, folder)


def samples(dtype: DType, seed: int = 0) -> Any:
    """Values of a dtype: limits, zeros, infinities and NaN among them; all codes of small ones."""
    random = np.random.default_rng(seed)
    if dtype.is_bool:
        return np.array([False, True] * 8)
    if dtype.is_float and dtype.bits <= 8:
        codes = np.arange(1 << dtype.bits, dtype=np.uint8)
        return codes.view(dtype.numpy)
    if dtype.is_float:
        special = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.75, 1e-8, -1e-8, 100.3, -7.1, np.inf, -np.inf, np.nan, dtype.maximum, dtype.minimum]
        bits = np.dtype(f"uint{dtype.bits}")
        with np.errstate(all="ignore"):
            anywhere = (
                random.integers(0, 1 << dtype.bits, 60, dtype=np.uint64, endpoint=False).astype(bits).view(dtype.numpy)
                if dtype.bits < 64
                else random.integers(0, (1 << 64) - 1, 60, dtype=np.uint64).view(np.float64)
            )
            near = random.uniform(-9, 9, 50)
            return np.concatenate([np.array(special).astype(dtype.numpy), anywhere.astype(dtype.numpy), near.astype(dtype.numpy)])
    if dtype.bits <= 4:
        return np.arange(int(dtype.minimum), int(dtype.maximum) + 1).astype(dtype.numpy)
    low, high = int(dtype.minimum), int(dtype.maximum)
    special_integers = [low, low + 1, high, high - 1, 0, 1, 2, 3, 5, 7, high // 2, high // 3]
    special_integers += [-1, -2, -7] if dtype.is_signed else []
    anywhere = random.integers(low, high, 50, dtype=np.uint64 if low == 0 and dtype.bits == 64 else np.int64, endpoint=True)
    return np.concatenate([np.array(special_integers, dtype.numpy), anywhere.astype(dtype.numpy), random.integers(0, 20, 20).astype(dtype.numpy)])


def packed(array: Any, dtype: DType) -> Any:
    """Elements as they lie in memory."""
    if not dtype.is_packed:
        return np.ascontiguousarray(array)
    nibbles = array.view(np.uint8) & 15
    nibbles = np.concatenate([nibbles, np.zeros(len(nibbles) % 2 + 8, np.uint8)])
    return nibbles[0::2][: len(nibbles) // 2] | nibbles[1::2] << 4


def unpacked(raw: Any, dtype: DType, count: int) -> Any:
    if not dtype.is_packed:
        return raw[:count]
    nibbles = np.stack([raw & 15, raw >> 4], -1).reshape(-1)[:count]
    if dtype.is_float:
        return nibbles.view(dtype.numpy)
    return (((nibbles ^ 8).astype(np.int8) - 8) if dtype.is_signed else nibbles).astype(dtype.numpy)


def outputs(inputs: list[tuple[Buffer, Any]], results: list[Expr], run: Runner, target: NvidiaTarget = SM_80) -> list[tuple[Any, Any]]:
    """Pairs of what generated code and what the reference computes, one element per element of the inputs; `results` read them at BLOCK."""
    count = len(inputs[0][1])
    stores, arrays, made_outputs = [], {b.name: packed(a, b.dtype) for b, a in inputs}, []
    for number, result in enumerate(results):
        out = tensor(f"out{number}", result.dtype, count)
        made_outputs.append(out)
        stores.append(store(out, BLOCK, result))
        arrays[out.name] = packed(np.zeros(count, result.dtype.numpy), result.dtype)
    made = program([b for b, _ in inputs] + made_outputs, seq(*stores), grid=(count,))
    run(emit_program(made, target), arrays)
    given = dict(inputs)

    def load(buffer: Buffer, indices: Any, mask: Any) -> Any:
        return given[buffer][indices[0]]

    pairs = []
    for out, result in zip(made_outputs, results, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = np.broadcast_to(evaluate(result, {BLOCK: np.arange(count)}, load), (count,))
        pairs.append((unpacked(arrays[out.name], out.dtype, count), expected))
    return pairs


@np.errstate(all="ignore")
def same(found: Any, expected: Any, dtype: DType, what: str) -> None:
    """Bit for bit; one NaN is as good as another."""
    if dtype.is_float:
        is_nan = np.isnan(expected.astype(np.float64))
        np.testing.assert_array_equal(np.isnan(found.astype(np.float64)), is_nan, err_msg=what)
        found, expected = found[~is_nan].astype(np.float64), expected[~is_nan].astype(np.float64)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected), err_msg=what)
    np.testing.assert_array_equal(found, expected, err_msg=what)


def check(inputs: list[tuple[Buffer, Any]], results: list[Expr], folder: Path) -> None:
    for result, (found, expected) in zip(results, outputs(inputs, results, on_host(folder)), strict=True):
        same(found, expected, result.dtype, str(result))


def pairs_of(dtype: DType) -> tuple[Any, Any]:
    a, b = samples(dtype), samples(dtype, 1)
    if len(a) * len(b) > 5000:
        b = b[:: max(1, len(a) * len(b) // 5000)]
    grid = np.array(list(itertools.product(range(len(a)), range(len(b)))))
    return a[grid[:, 0]], b[grid[:, 1]]


@needs_host_compiler
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_operations_of_integers(dtype: DType, tmp_path: Path) -> None:
    x, y = pairs_of(dtype)
    # Where the quotient does not fit, or there is none, nothing is promised.
    with np.errstate(all="ignore"):
        is_defined = (y != 0) & ~((x == dtype.numpy.type(int(dtype.minimum))) & (y.astype(np.int64) == -1 if dtype.is_signed else False))
    x, y = x[is_defined], y[is_defined]
    a, b = tensor("a", dtype, len(x)), tensor("b", dtype, len(x))
    left, right = at(a, BLOCK), at(b, BLOCK)
    results = [e.binary(op, left, right) for op in [*ARITHMETIC, *DIVISIONS, *BITWISE, Op.EQ, Op.NE, Op.LT, Op.LE, Op.GT, Op.GE]]
    results += [-left, ~left, left << 3, left >> 1, left // 3, left % 4, left // 4 if dtype.bits > 4 else left // 2]
    check([(a, x), (b, y)], results, tmp_path)


@needs_host_compiler
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_operations_of_floats(dtype: DType, tmp_path: Path) -> None:
    x, y = pairs_of(dtype)
    a, b = tensor("a", dtype, len(x)), tensor("b", dtype, len(x))
    left, right = at(a, BLOCK), at(b, BLOCK)
    results = [e.binary(op, left, right) for op in [Op.ADD, Op.SUB, Op.MUL, Op.EQ, Op.NE, Op.LT, Op.LE, Op.GT, Op.GE]]
    results += [e.divide(left, right), -left, e.select(left < right, left, right), left + e.const(1.5, dtype)]
    results += [e.binary(op, left, right) for op in DIVISIONS]
    check([(a, x), (b, y)], results, tmp_path)
    # Of zeros of both signs either may be the least.
    for result, (found, expected) in zip(
        (extrema := [e.minimum(left, right), e.maximum(left, right)]), outputs([(a, x), (b, y)], extrema, on_host(tmp_path)), strict=True
    ):
        same(found.astype(np.float64) + 0.0, expected.astype(np.float64) + 0.0, dtypes.float64, str(result))


ALL = [dtypes.bool_, *INTEGERS, *FLOATS]


def cast_samples(source: DType) -> Any:
    """All codes of up to 16 bits; of wider floats also what lies between the values of narrow ones, and half way."""
    x = samples(source)
    if source.bits == 16:
        x = np.arange(1 << 16, dtype=np.uint16).view(source.numpy)
    if source.is_float and source.bits >= 32:
        codes = np.arange(1 << 16, dtype=np.uint16)
        narrow = np.concatenate([codes.view(np.float16).astype(np.float32), codes[::16].view(dtypes.bfloat16.numpy).astype(np.float32)])
        with np.errstate(all="ignore"):
            x = np.concatenate(
                [x, narrow.astype(source.numpy), (narrow * np.float32(1.0001)).astype(source.numpy), (narrow * np.float32(0.75)).astype(source.numpy)]
            )
        if source.bits == 64:
            x = np.concatenate([x, np.nan_to_num(narrow, nan=1.0).astype(np.float64) * (1 + 2.0**-40)])
    return x


@needs_host_compiler
@pytest.mark.parametrize("source", ALL, ids=str)
def test_casts(source: DType, tmp_path: Path) -> None:
    x = cast_samples(source)
    a = tensor("a", source, len(x))
    element = at(a, BLOCK)
    check([(a, x)], [e.cast(element, target) for target in ALL if target not in (source, *WITHOUT_NAN)], tmp_path)
    x = x[~np.isnan(x.astype(np.float64))]
    a = tensor("a", source, len(x))
    check([(a, x)], [e.cast(at(a, BLOCK), target) for target in WITHOUT_NAN if target != source], tmp_path)


@needs_host_compiler
@pytest.mark.parametrize("rounding", [Rounding.TOWARD_ZERO, Rounding.UP, Rounding.DOWN])
@pytest.mark.parametrize("source", ["float64", "float32", "float16", "int32", "uint32", "uint64"])
def test_casts_in_a_direction(source: str, rounding: Rounding, tmp_path: Path) -> None:
    dtype = as_dtype(source)
    x = samples(dtype)
    random = np.random.default_rng(5)
    if dtype.is_float:
        with np.errstate(all="ignore"):
            near = [random.normal(0, scale, 3000).astype(dtype.numpy) for scale in (1e-3, 1.0, 30.0, 300.0, 60000.0)]
            x = np.concatenate([x, *near])
    elif dtype.bits == 64:
        x = x[x < 1 << 53]  # beyond it the reference rounds to a float64 first
    x = x[~np.isnan(x.astype(np.float64))]  # see WITHOUT_NAN
    a = tensor("a", dtype, len(x))
    targets = [
        d for d in FLOATS if d.bits < dtype.bits and d != "float8_e8m0fnu" and d != "tfloat32" and not (d.bits == 32 and dtype.bits < 64 and dtype.is_float)
    ]
    check([(a, x)], [e.cast(at(a, BLOCK), target, rounding) for target in targets], tmp_path)


@needs_host_compiler
def test_reinterpretations(tmp_path: Path) -> None:
    for bits, folder in ((4, "a"), (8, "b"), (16, "c"), (32, "d"), (64, "e")):
        kinds = [d for d in ALL if d.bits == bits]
        for source in kinds:
            x = samples(source)
            if source.is_float:
                x = x[~np.isnan(x.astype(np.float64))]
            a = tensor("a", source, len(x))
            (path := tmp_path / folder / str(source)).mkdir(parents=True)
            check([(a, x)], [e.reinterpret(at(a, BLOCK), target) for target in kinds if target != source], path)


@needs_nvrtc
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_all_operations_compile(dtype: DType) -> None:
    a, b = tensor("a", dtype, 64), tensor("b", dtype, 64)
    left, right = at(a, BLOCK), at(b, BLOCK)
    results = [e.binary(op, left, right) for op in [*ARITHMETIC, Op.EQ, Op.LT]] if not dtype.is_bool else [left & right, left | right]
    if dtype.is_integer:
        results += [e.binary(op, left, right) for op in [*DIVISIONS, *BITWISE, Op.SHIFT_LEFT, Op.SHIFT_RIGHT]]
    results += [e.cast(left, target) for target in ALL if target != dtype]
    results += [e.cast(left, t, r) for t in FLOATS for r in Rounding if t != dtype and (dtype.is_float or dtype.is_integer)]
    targets = [tensor(f"out{n}", result.dtype, 64) for n, result in enumerate(results)]
    compiles(program([a, b, *targets], seq(*(store(t, BLOCK, r) for t, r in zip(targets, results, strict=True))), grid=(64,)))
