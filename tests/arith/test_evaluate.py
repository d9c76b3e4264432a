"""`evaluate` against numpy, Python integers and exact rationals."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tilewright import dtypes
from tilewright.arith.evaluate import evaluate, reinterpret
from tilewright.dtypes import as_dtype
from tilewright.errors import CompilerBug, Span
from tilewright.ir import expr as ir
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, Rounding
from tilewright.ir.intrinsic import Intrinsic

SPAN = Span("test.py", 1)
SMALL_FLOATS = ["float16", "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn"]


def no_load(*_: Any) -> np.ndarray:
    raise AssertionError("nothing is loaded here")


def of(expr: Expr, **values: Any) -> np.ndarray:
    named = {v: values[v.name] for v in _variables(expr)}
    return evaluate(expr, named, no_load)


def _variables(expr: Expr) -> list[Expr]:
    return [expr] if expr.op is Op.VAR else [v for a in expr.args for v in _variables(a)]


def all_bytes(dtype: dtypes.DType) -> np.ndarray:
    """Every value of an 8-bit type."""
    return np.arange(256, dtype=np.uint8).view(dtype.numpy)


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint16", "int32", "int64", "int4", "uint4"])
def test_integer_operations_are_exact_modulo_the_width(name: str) -> None:
    dtype = as_dtype(name)
    low, high = int(dtype.minimum), int(dtype.maximum)
    points = sorted({*range(max(low, -9), min(high, 9) + 1), low, low + 1, high - 1, high, high // 3})
    a, b = ir.var("a", dtype), ir.var("b", dtype)
    left = np.array(points).astype(dtype.numpy)[:, None]
    right = np.array(points).astype(dtype.numpy)[None, :]
    exact = {
        Op.ADD: lambda x, y: x + y,
        Op.SUB: lambda x, y: x - y,
        Op.MUL: lambda x, y: x * y,
        Op.BIT_XOR: lambda x, y: x ^ y,
        Op.BIT_AND: lambda x, y: x & y,
        Op.BIT_OR: lambda x, y: x | y,
        Op.MIN: min,
        Op.MAX: max,
        Op.FLOORDIV: lambda x, y: x // y,
        Op.FLOORMOD: lambda x, y: x % y,
        Op.TRUNCDIV: lambda x, y: math.trunc(Fraction(x, y)),
        Op.TRUNCMOD: lambda x, y: x - math.trunc(Fraction(x, y)) * y,
    }
    for op, function in exact.items():
        node = ir.binary(op, a, b)
        got = evaluate(node, {a: left, b: right}, no_load)
        assert got.dtype == dtype.numpy
        for i, x in enumerate(points):
            for j, y in enumerate(points):
                if op not in (Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD) or y != 0:
                    assert int(got[i, j]) == ir.convert_constant(function(x, y), dtype), (op, x, y)
    for op, function in {Op.LT: lambda x, y: x < y, Op.GE: lambda x, y: x >= y, Op.NE: lambda x, y: x != y}.items():
        got = evaluate(ir.binary(op, a, b), {a: left, b: right}, no_load)
        assert got.dtype == np.bool_ and got.tolist() == [[function(x, y) for y in points] for x in points]


@pytest.mark.parametrize("name", ["int8", "uint16", "int32", "uint64"])
def test_shifts_and_complement(name: str) -> None:
    dtype = as_dtype(name)
    a, s = ir.var("a", dtype), ir.var("s", dtype)
    points = [int(dtype.minimum), 1, 5, int(dtype.maximum)]
    counts = list(range(dtype.bits))
    for op, function in {Op.SHIFT_LEFT: lambda x, n: x << n, Op.SHIFT_RIGHT: lambda x, n: x >> n}.items():
        got = evaluate(ir.binary(op, a, s), {a: np.array(points, dtype.numpy)[:, None], s: np.array(counts, dtype.numpy)}, no_load)
        assert got.tolist() == [[ir.convert_constant(function(x, n), dtype) for n in counts] for x in points]
    assert of(~a, a=np.array(points, dtype.numpy)).tolist() == [ir.convert_constant(~x, dtype) for x in points]


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e3m4", "float8_e4m3fnuz"])
def test_narrow_floats_round_once_from_float32(name: str) -> None:
    dtype = as_dtype(name)
    a, b = ir.var("a", dtype), ir.var("b", dtype)
    values = all_bytes(dtype)
    wide = values.astype(np.float32)
    with np.errstate(all="ignore"):
        for node, expected in (
            (a + b, wide[:, None] + wide),
            (a * b, wide[:, None] * wide),
            (a / b, wide[:, None] / wide),
            (ir.maximum(a, b), np.fmax(wide[:, None], wide)),
            (a - b, wide[:, None] - wide),
        ):
            got = evaluate(node, {a: values[:, None], b: values}, no_load)
            assert got.dtype == dtype.numpy
            np.testing.assert_array_equal(got.astype(np.float32), expected.astype(dtype.numpy).astype(np.float32))


def test_each_operation_of_a_chain_rounds() -> None:
    x = ir.var("x", dtypes.float16)
    got = of((x + ir.const(1.0, dtypes.float16)) - ir.const(1.0, dtypes.float16), x=np.float16(0.0003))
    assert got.dtype == np.float16 and float(got) == 0.0


def test_min_and_max_pass_over_nan() -> None:
    x, y = ir.var("x", dtypes.float32), ir.var("y", dtypes.float32)
    left, right = np.array([np.nan, 1, np.nan], np.float32), np.array([2, np.nan, np.nan], np.float32)
    np.testing.assert_array_equal(of(ir.minimum(x, y), x=left, y=right), np.array([2, 1, np.nan], np.float32))
    np.testing.assert_array_equal(of(ir.maximum(x, y), x=left, y=right), np.array([2, 1, np.nan], np.float32))


@pytest.mark.parametrize("target", ["int4", "uint4", "int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("source", ["float64", "float32", "bfloat16"])
def test_floats_to_integers_truncate_and_saturate(source: str, target: str) -> None:
    kind = as_dtype(target)
    low, high = int(kind.minimum), int(kind.maximum)
    numbers = [0.0, -0.9, 0.9, 1.5, -1.5, low - 1.0, low, high, high + 1.0, 3e38, -3e38, np.inf, -np.inf, np.nan, 2.0**31, 2.0**63]
    points = np.array(numbers).astype(as_dtype(source).numpy)
    x = ir.var("x", as_dtype(source))
    got = of(ir.cast(x, kind), x=points)
    assert got.dtype == kind.numpy
    for value, result in zip(points.astype(np.float64).tolist(), got, strict=True):
        expected = 0 if math.isnan(value) else low if value < low else high if value > high else math.trunc(value)
        assert int(result) == expected, value


def test_integer_casts_wrap() -> None:
    x = ir.var("x", dtypes.int32)
    points = np.array([-130, -129, -1, 0, 7, 8, 15, 16, 127, 128, 255, 256, 70000, -70000], np.int32)
    for name in ("int4", "uint4", "int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64"):
        got = of(ir.cast(x, as_dtype(name)), x=points)
        assert [int(v) for v in got] == [ir.convert_constant(int(p), as_dtype(name)) for p in points]
    assert of(ir.cast(x, dtypes.bool_), x=points).tolist() == [p != 0 for p in points]


@pytest.mark.parametrize("name", [*SMALL_FLOATS, "float8_e8m0fnu"])
@pytest.mark.parametrize("rounding", [Rounding.TOWARD_ZERO, Rounding.UP, Rounding.DOWN])
def test_directed_rounding_picks_the_neighbour_on_its_side(name: str, rounding: Rounding) -> None:
    dtype = as_dtype(name)
    bits = np.arange(1 << 16, dtype=np.uint16).view(dtype.numpy) if dtype.bits == 16 else all_bytes(dtype)[: 1 << dtype.bits]
    with np.errstate(invalid="ignore"):
        wide = bits.astype(np.float64)
    all_values = np.unique(wide[np.isfinite(wide)])
    grid = all_values[:: max(1, len(all_values) // 300)] if dtype.bits == 8 else all_values
    middle = ((grid[1:] + grid[:-1]) / 2)[:: max(1, len(grid) // 500)]
    points = np.unique(np.concatenate([middle, middle + (grid[1] - grid[0]) / 8, grid[:: max(1, len(grid) // 500)]])).astype(np.float32)
    x = ir.var("x", dtypes.float32)
    got = of(ir.cast(x, dtype, rounding), x=points).astype(np.float64)
    for value, result in zip(points.astype(np.float64), got, strict=True):
        below, above = all_values[all_values <= value], all_values[all_values >= value]
        is_down = rounding is Rounding.DOWN or (rounding is Rounding.TOWARD_ZERO and value > 0)
        side = below[-1:] if is_down else above[:1]
        if len(side):
            assert result == side[0], (value, result)
    beyond = of(ir.cast(x, dtype, rounding), x=np.float32(3.3e38))
    if rounding is not Rounding.UP and float(dtype.maximum) < 3.3e38:
        assert float(beyond) == float(dtype.maximum)


def test_casts_between_floats_and_bool_are_those_of_numpy() -> None:
    x = ir.var("x", dtypes.float32)
    points = np.array([0.1, -0.0, 65504, 65520, 1e-8, np.inf, np.nan, 3.14159], np.float32)
    with np.errstate(all="ignore"):
        for name in SMALL_FLOATS:
            np.testing.assert_array_equal(of(ir.cast(x, as_dtype(name)), x=points).astype(np.float32), points.astype(as_dtype(name).numpy).astype(np.float32))
    flag = ir.var("flag", dtypes.bool_)
    assert of(ir.cast(flag, dtypes.bfloat16), flag=np.array([True, False])).dtype == ml_dtypes.bfloat16


class Memory:
    """A loader that records which elements were asked for under the mask."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.buffer = Buffer("A", as_dtype(data.dtype), data.shape, Scope.GLOBAL, SPAN)
        self.touched: list[int] = []

    def __call__(self, buffer: Buffer, indices: tuple[np.ndarray, ...], mask: np.ndarray) -> np.ndarray:
        assert buffer is self.buffer
        index, mask = np.broadcast_arrays(indices[0], mask)
        self.touched += np.unique(index[mask]).tolist()
        return self.data[np.where(mask, index, 0)]


def test_if_then_else_loads_only_what_is_taken() -> None:
    memory = Memory(np.arange(8, dtype=np.float32))
    i = ir.var("i")
    inside = (i >= 0) & (i < 8)
    node = ir.select(inside, ir.load(memory.buffer, (i,)), -1.0, is_lazy=True)
    lanes = np.arange(-3, 12, dtype=np.int32)
    got = evaluate(node, {i: lanes}, memory)
    assert got.tolist() == [float(n) if 0 <= n < 8 else -1.0 for n in lanes]
    assert memory.touched == list(range(8))
    memory.touched.clear()
    assert evaluate(node, {i: np.int32(100)}, memory).tolist() == -1.0
    assert memory.touched == []


def test_and_or_stop_at_the_deciding_side() -> None:
    memory = Memory(np.array([0, 1, 0, 1], np.int32))
    i = ir.var("i")
    element = ir.load(memory.buffer, (i,))
    lanes = np.arange(-2, 6, dtype=np.int32)
    got = evaluate(ir.logical(Op.AND, (i >= 0) & (i < 4), element == 1), {i: lanes}, memory)
    assert got.tolist() == [n in (1, 3) for n in lanes] and memory.touched == [0, 1, 2, 3]
    memory.touched.clear()
    got = evaluate(ir.logical(Op.OR, (i < 2) | (i >= 4), element == 1), {i: lanes}, memory)
    assert got.tolist() == [n < 2 or n >= 4 or n == 3 for n in lanes] and memory.touched == [2, 3]


def test_the_outer_mask_reaches_loads_and_a_load_seen_under_a_narrow_mask_is_not_reused_under_a_wider_one() -> None:
    memory = Memory(np.array([5, 6, 7, 8], np.int32))
    i = ir.var("i")
    element = ir.load(memory.buffer, (i,))
    node = ir.select(i < 2, element, 0, is_lazy=True) + element
    got = evaluate(node, {i: np.arange(5, dtype=np.int32)}, memory, mask=np.arange(5) < 4)
    assert got[:4].tolist() == [10, 12, 7, 8]


def test_select_evaluates_both_sides() -> None:
    memory = Memory(np.array([5, 6], np.int32))
    i = ir.var("i")
    node = ir.select(i == 0, ir.load(memory.buffer, (i,)), ir.load(memory.buffer, (1 - i,)))
    assert evaluate(node, {i: np.array([0, 1], np.int32)}, memory).tolist() == [5, 5]
    assert memory.touched == [0, 1, 0, 1]


def test_calls_use_their_meaning_or_the_given_one() -> None:
    double = Intrinsic("double", 1, lambda kinds: kinds[0], lambda x: x.astype(np.float32) * 2)
    x = ir.var("x", dtypes.float16)
    got = of(ir.call(double, x), x=np.float16(1.5))
    assert got.dtype == np.float16 and float(got) == 3.0
    replaced = evaluate(ir.call(double, x), {x: 1.5}, no_load, call=lambda intrinsic, args, mask: args[0])
    assert float(replaced) == 1.5


def test_vectors_have_their_lanes_last() -> None:
    x, y = ir.var("x", dtypes.float32), ir.var("y", dtypes.float32)
    packed = dtypes.as_dtype("float32x2")(x, y)
    got = of(packed * 2.0, x=np.array([1, 2, 3], np.float32), y=np.float32(10) * np.ones(3, np.float32))
    assert got.tolist() == [[2, 20], [4, 20], [6, 20]]
    chosen = of(ir.select(x > 1.5, packed, packed + 1.0), x=np.array([1, 2], np.float32), y=np.array([0, 0], np.float32))
    assert chosen.tolist() == [[2, 1], [2, 0]]


def test_reinterpret_keeps_the_bits() -> None:
    words = np.array([0x40003C00, 0xFEDCBA98], np.uint32)
    halves = reinterpret(words, dtypes.uint32, as_dtype("float16x2"))
    assert halves[0].tolist() == [1.0, 2.0]
    assert reinterpret(halves, as_dtype("float16x2"), dtypes.uint32).tolist() == words.tolist()
    nibbles = reinterpret(words, dtypes.uint32, as_dtype("uint4x8"))
    assert nibbles.astype(np.int32)[1].tolist() == [8, 9, 10, 11, 12, 13, 14, 15]
    assert reinterpret(nibbles, as_dtype("uint4x8"), dtypes.uint32).tolist() == words.tolist()
    signed = reinterpret(words, dtypes.uint32, as_dtype("int4x8"))
    assert signed.astype(np.int32)[1].tolist() == list(range(-8, 0))
    assert reinterpret(signed, as_dtype("int4x8"), dtypes.uint32).tolist() == words.tolist()
    assert reinterpret(np.array(1.0, np.float32), dtypes.float32, dtypes.int32).tolist() == 0x3F800000


def test_deep_expressions_need_no_recursion() -> None:
    x = ir.var("x")
    node = x
    for _ in range(5000):
        node = node + x
    assert int(of_shared(node, x)) == 5001


def of_shared(node: Expr, x: Expr) -> np.ndarray:
    return evaluate(node, {x: 1}, no_load)


def test_faults_of_the_caller_are_named() -> None:
    x = ir.var("x")
    with pytest.raises(CompilerBug, match="x has no value"):
        evaluate(x + 1, {}, no_load)
    buffer = Buffer("A", dtypes.float32, (4,), Scope.GLOBAL, SPAN)
    with pytest.raises(CompilerBug, match="a load of A gave float64"):
        evaluate(ir.load(buffer, (x,)), {x: 1}, lambda *_: np.zeros(4))
