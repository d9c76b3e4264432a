"""Parallel nests and reductions in native code against the plain interpreter."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.llvm.lowered import Interpreter, at, check, let, native, parallel, program, reduction, seq, serial, store, tensor, tile, when
from tilewright.codegen.llvm.program import emit_program
from tilewright.dtypes import DType, as_dtype, bool_, float16, float32, float64, int8, int32, int64, uint8
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, binary, cast, const, maximum, minimum, select, var
from tilewright.ir.stmt import ReduceKind, Stmt
from tilewright.ir.tileop import Storage, TilePlan
from tilewright.target.cpu import AVX2, GENERIC_128, NEON, host_target

RNG = np.random.default_rng(7)


def floats(*shape: int, dtype: DType = float32) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32).astype(dtype.numpy)


def integers(*shape: int, low: int = -50, high: int = 50, dtype: DType = int32) -> np.ndarray:
    return RNG.integers(low, high, shape).astype(dtype.numpy)


# -- element by element


@pytest.mark.parametrize("extent", [1, 3, 4, 5, 8, 31, 32, 33, 64, 77, 100, 128])
def test_every_extent_is_covered_exactly(extent: int) -> None:
    a, b, c = (tensor(n, float32, extent) for n in "abc")
    check(
        program([a, b, c], lambda bx: parallel([extent], lambda i: store(c, [i], at(a, i) + at(b, i)))),
        {"a": floats(extent), "b": floats(extent), "c": floats(extent)},
    )


@pytest.mark.parametrize("extent", [0, 1, 7, 8, 40, 41])
def test_a_symbolic_extent_is_covered_exactly(extent: int) -> None:
    n = var("n")
    a, c = tensor("a", float32, n), tensor("c", float32, n)
    check(program([a, c], lambda bx: parallel([n], lambda i: store(c, [i], at(a, i) * 3.0))), {"a": floats(extent), "c": floats(extent)}, symbols={"n": extent})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float32", "int8", "uint8", "int16", "int32", "uint32", "int64"])
def test_arithmetic_rounds_in_the_dtype_of_each_node(dtype: str) -> None:
    kind = as_dtype(dtype)
    a, b, c = (tensor(n, kind, 70) for n in "abc")
    make = floats if kind.is_float else integers
    check(
        program([a, b, c], lambda bx: parallel([70], lambda i: store(c, [i], (at(a, i) + at(b, i)) - at(b, i) * at(a, i)))),
        {n: make(70, dtype=kind) for n in "abc"},
        tolerance=1e-5 if kind is float32 else 0,
    )


def test_one_loop_may_mix_element_sizes() -> None:
    a, b, c, d = tensor("a", int8, 67), tensor("b", float64, 67), tensor("c", float16, 67), tensor("d", bool_, 67)
    check(
        program(
            [a, b, c, d],
            lambda bx: parallel(
                [67], lambda i: seq(store(c, [i], cast(at(a, i), float16) + cast(at(b, i), float16)), store(d, [i], at(b, i) > cast(at(a, i), float64)))
            ),
        ),
        {"a": integers(67, dtype=int8), "b": floats(67, dtype=float64), "c": floats(67, dtype=float16), "d": np.zeros(67, np.bool_)},
    )


def test_the_axis_that_is_contiguous_becomes_the_lanes() -> None:
    a, c = tensor("a", float32, 64, 16), tensor("c", float32, 64, 16)
    code = check(program([a, c], lambda bx: parallel([16, 64], lambda j, i: store(c, [i, j], at(a, i, j) + 1.0))), {"a": floats(64, 16), "c": floats(64, 16)})
    assert "load <16 x float>" in code.module.text


def test_a_transposing_loop() -> None:
    a, c = tensor("a", float32, 50, 33), tensor("c", float32, 33, 50)
    check(program([a, c], lambda bx: parallel([50, 33], lambda i, j: store(c, [j, i], at(a, i, j) * 2.0))), {"a": floats(50, 33), "c": floats(33, 50)})


def test_strides_may_be_numbers_or_symbols() -> None:
    s = var("s", int64)
    a = tensor("a", float32, 6, 20, strides=(40, 2))
    b = tensor("b", float32, 6, 20, strides=(s, 1))
    c = tensor("c", float32, 6, 20, strides=(1, s))
    memory = {"a": floats(6 * 40), "b": floats(6 * 24), "c": floats(24 * 20)}
    views = {
        "a": np.lib.stride_tricks.as_strided(memory["a"], (6, 20), (160, 8)),
        "b": np.lib.stride_tricks.as_strided(memory["b"], (6, 20), (96, 4)),
        "c": np.lib.stride_tricks.as_strided(memory["c"], (6, 20), (4, 96)),
    }
    made = program([a, b, c], lambda bx: parallel([6, 20], lambda i, j: store(c, [i, j], at(a, i, j) - at(b, i, j))))
    expected = {n: v.copy() for n, v in views.items()}
    Interpreter(made, expected, symbols={"s": 24})
    assert native(made)(memory, symbols={"s": 24}) == 0
    np.testing.assert_array_equal(views["c"], expected["c"])


def test_loads_and_stores_of_one_turn_keep_their_order() -> None:
    a, c = tensor("a", int32, 40), tensor("c", int32, 40)
    t = tile("t", int32, 40)
    body = parallel([40], lambda i: seq(store(t, [i], at(a, i)), store(c, [i], at(t, i)), store(t, [i], at(t, i) * 3), store(c, [i], at(c, i) + at(t, i))))
    check(program([a, c], lambda bx: body), {"a": integers(40), "c": integers(40)})


def test_lanes_read_pairs_where_the_index_is_halved() -> None:
    a, c = tensor("a", uint8, 32), tensor("c", int32, 64)
    made = program([a, c], lambda bx: parallel([64], lambda i: store(c, [i], (cast(at(a, i // 2), int32) >> ((i % 2) * 4)) & 15)))
    check(made, {"a": integers(32, low=0, high=255, dtype=uint8), "c": integers(64)})
    assert "load <16 x i8>" in emit_program(made, {}, AVX2).text


@pytest.mark.parametrize("divisor", [2, 3, 4, 5])
def test_divided_indices_in_any_loop(divisor: int) -> None:
    a, c = tensor("a", int32, 40), tensor("c", int32, 77)
    check(
        program([a, c], lambda bx: parallel([77], lambda i: store(c, [i], at(a, i // divisor) + at(a, i % divisor) * 100 + i // divisor))),
        {"a": integers(40), "c": integers(77)},
    )


def test_products_of_quotients_and_remainders_in_indices() -> None:
    a, c, n = tensor("a", int32, 4000), tensor("c", int32, 128), var("n")
    check(
        program(
            [a, c, n],
            lambda bx: parallel([128], lambda i: store(c, [i], at(a, (i // 64) * (i % 64)) + at(a, (i % 8) * n + i // 32 * (i // 8)) + (i // 64) * i)),
        ),
        {"a": integers(4000), "c": integers(128)},
        scalars={"n": 13},
    )


def test_indices_from_memory() -> None:
    a, index, c = tensor("a", float32, 50, 3), tensor("index", int32, 40), tensor("c", float32, 50)
    order = RNG.permutation(50)[:40].astype(np.int32)
    check(
        program([a, index, c], lambda bx: parallel([40], lambda i: store(c, [at(index, i)], at(a, at(index, i), 1) + at(a, at(index, i), 2)))),
        {"a": floats(50, 3), "index": order, "c": floats(50)},
    )


@pytest.mark.parametrize("is_given", [True, False])
def test_a_scalar_tile_that_a_loop_writes_is_its_own_in_every_turn(is_given: bool) -> None:
    a, c = tensor("a", int32, 70), tensor("c", int32, 70)
    x, y = tile("x", int32, 1, scope=Scope.VARIABLE), tile("y", float32, 3, scope=Scope.LOCAL)

    def body(i: Expr) -> Stmt:
        first = [store(x, [0], at(a, i) if is_given else at(x, 0) + at(a, i)), store(y, [2], cast(i, float32))]
        return seq(
            *first,
            when(at(x, 0) > 0, store(x, [0], at(x, 0) * 2)),
            serial(3, lambda s: store(y, [2], at(y, 2) * 1.5 + cast(s, float32))),
            store(c, [i], at(x, 0) + cast(at(y, 2), int32)),
        )

    made = program([a, c], lambda bx: seq(store(x, [0], 5), parallel([70], body)))
    check(made, {"a": integers(70), "c": integers(70)})
    assert ("<32 x i32>" in emit_program(made, {}, AVX2).text) == is_given


def test_accumulators_of_inner_loops_stay_in_registers() -> None:
    a, b, c = tensor("a", int32, 20, 30), tensor("b", int32, 30, 40), tensor("c", int32, 20, 40)
    t = tile("t", int32, 20, 40)
    step = lambda i, j: serial(30, lambda s: seq(store(t, [i, j], at(t, i, j) + at(a, i, s) * at(b, s, j)), when(at(b, s, j) > 40, store(t, [i, j], 0))))
    body = seq(parallel([20, 40], lambda i, j: seq(store(t, [i, j], i), step(i, j))), parallel([20, 40], lambda i, j: store(c, [i, j], at(t, i, j))))
    made = program([a, b, c], lambda bx: body)
    check(made, {"a": integers(20, 30), "b": integers(30, 40), "c": integers(20, 40)})
    assert "alloca <8 x i32>" in emit_program(made, {}, AVX2).text


def test_an_accumulator_of_a_scalar_loop_is_seen_by_parallel_loops_inside() -> None:
    a, c = tensor("a", int32, 30), tensor("c", int32, 30)
    t = tile("t", int32, 4)
    inner = lambda s: parallel([30], lambda i: store(c, [i], at(c, i) + at(t, 2)))
    turn = lambda s: seq(store(t, [2], at(t, 2) + at(a, s)), inner(s), when(at(t, 2) > 60, store(t, [2], 1)))
    check(program([a, c], lambda bx: seq(store(t, [2], 5), serial(30, turn), store(c, [0], at(t, 2)))), {"a": integers(30), "c": integers(30)})


# -- guards


@pytest.mark.parametrize("low, high", [(0, 128), (3, 120), (0, 77), (60, 61), (50, 50), (100, 20), (-5, 200)])
def test_a_guarded_store_runs_where_the_guard_holds(low: int, high: int) -> None:
    n = var("n")
    a, c = tensor("a", int32, 128), tensor("c", int32, 128)
    for bound in (const(high), n):
        check(
            program([a, c, n], lambda bx, bound=bound: parallel([128], lambda i: when((i >= low) & (i < bound), store(c, [i], at(a, i) + i)))),
            {"a": integers(128), "c": integers(128)},
            scalars={"n": high},
        )


@pytest.mark.parametrize("rows, columns", [(64, 32), (100, 70), (1, 1), (65, 33)])
def test_a_tile_copy_beyond_the_edges(rows: int, columns: int) -> None:
    m, n = var("m"), var("n")
    a, c = tensor("a", float32, m, n), tensor("c", float32, m, n)
    t = tile("t", float32, 64, 32)

    def body(bx: Expr, by: Expr) -> Stmt:
        def inside(i: Expr, j: Expr) -> Expr:
            return (by * 64 + i < m) & (bx * 32 + j < n)

        return seq(
            parallel([64, 32], lambda i, j: store(t, [i, j], select(inside(i, j), at(a, by * 64 + i, bx * 32 + j), 0.0, is_lazy=True))),
            parallel([64, 32], lambda i, j: store(t, [i, j], at(t, i, j) * 2.0 + 1.0)),
            parallel([64, 32], lambda i, j: when(inside(i, j), store(c, [by * 64 + i, bx * 32 + j], at(t, i, j)))),
        )

    check(program([a, c], body, [3, 2]), {"a": floats(rows, columns), "c": floats(rows, columns)}, symbols={"m": rows, "n": columns})


def test_different_guards_in_one_body() -> None:
    a, b, c = tensor("a", int32, 40), tensor("b", int32, 60), tensor("c", int32, 50)
    check(
        program(
            [a, b, c],
            lambda bx: parallel(
                [64], lambda i: when(i < 50, store(c, [i], select(i < 40, at(a, i), -1, is_lazy=True) + select(i >= 4, at(b, i - 4), -2, is_lazy=True)))
            ),
        ),
        {"a": integers(40), "b": integers(60), "c": integers(50)},
    )


def test_a_causal_mask_with_both_branches() -> None:
    s = tensor("s", float32, 48, 48)
    check(
        program([s], lambda bx: parallel([48, 48], lambda i, j: when(i + 3 <= j, store(s, [i, j], -5.0), store(s, [i, j], at(s, i, j) + 1.0)))),
        {"s": floats(48, 48)},
    )


@pytest.mark.parametrize("slope", [1, -1, 2, -3])
@pytest.mark.parametrize("op", [Op.LT, Op.LE, Op.GT, Op.GE, Op.EQ])
def test_every_comparison_bounds_the_range(op: Op, slope: int) -> None:
    c, k = tensor("c", int32, 40), var("k")
    for bound in (-7, 0, 20, 21, 100):
        check(
            program([c, k], lambda bx: parallel([40], lambda i: when(binary(op, i * slope + 1, k), store(c, [i], i)))),
            {"c": integers(40)},
            scalars={"k": bound},
        )


def test_a_condition_on_data_protects_a_store() -> None:
    a, c = tensor("a", int32, 70), tensor("c", int32, 70)
    check(
        program([a, c], lambda bx: parallel([70], lambda i: when(at(a, i) > 0, store(c, [i], at(a, i) * 2), store(c, [i], -1)))),
        {"a": integers(70), "c": integers(70)},
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float32", "uint8", "int64"])
def test_moving_keeps_every_bit_and_masks_work_for_every_width(dtype: str) -> None:
    kind = as_dtype(dtype)
    a, c, d, index = tensor("a", kind, 90), tensor("c", kind, 70), tensor("d", kind, 90), tensor("index", int32, 70)
    t = tile("t", kind, 70)
    is_positive = lambda i: at(index, i) > 0
    body = seq(
        parallel([70], lambda i: store(t, [i], select(i < 50, at(a, i + 3), const(1, kind), is_lazy=True))),
        parallel([70], lambda i: when(is_positive(i), store(t, [i], at(a, i)))),
        parallel([70], lambda i: store(c, [i], select(is_positive(i), at(t, i), at(a, at(index, i) + 50), is_lazy=True))),
        parallel([70], lambda i: when(is_positive(i), store(d, [at(index, i)], at(t, i)))),
    )
    data = {
        "a": RNG.integers(0, 256, 90 * kind.itemsize).astype(np.uint8).view(kind.numpy),
        "c": np.zeros(70, kind.numpy),
        "d": np.zeros(90, kind.numpy),
        "index": (RNG.permutation(89)[:70] - 44).astype(np.int32),
    }
    expected = {n: x.copy() for n, x in data.items()}
    made = program([a, c, d, index], lambda bx: body)
    Interpreter(made, expected)
    assert native(made)(data) == 0
    for name in data:
        np.testing.assert_array_equal(data[name].view(np.uint8), expected[name].view(np.uint8), err_msg=name)


def test_a_condition_on_data_protects_a_load() -> None:
    a, index, c = tensor("a", int32, 20), tensor("index", int32, 70), tensor("c", int32, 70)
    check(
        program(
            [a, index, c],
            lambda bx: parallel([70], lambda i: store(c, [i], select((at(index, i) >= 0) & (at(index, i) < 20), at(a, at(index, i)), -1, is_lazy=True))),
        ),
        {"a": integers(20), "index": integers(70, low=-5, high=30), "c": integers(70)},
    )


# -- reductions


def exact_or_close(kind: ReduceKind, dtype: DType) -> float:
    return 1e-5 if kind is ReduceKind.SUM and dtype.is_float else 0.0


@pytest.mark.parametrize("extent", [0, 1, 3, 8, 16, 32, 64, 77, 100])
@pytest.mark.parametrize("kind", [ReduceKind.SUM, ReduceKind.MAX, ReduceKind.MIN])
def test_reductions_along_rows_and_columns(kind: ReduceKind, extent: int) -> None:
    a, b, c = tensor("a", float32, 20, max(extent, 1)), tensor("b", float32, max(extent, 1), 20), tensor("c", float32, 2, 20)

    def body(i: Expr) -> Stmt:
        rows = reduction(kind, 0.5, extent, lambda r: at(a, i, r), float32)
        columns = reduction(kind, 0.5, extent, lambda r: at(b, r, i), float32)
        return seq(rows, store(c, [0, i], rows.result), columns, store(c, [1, i], columns.result))

    check(
        program([a, b, c], lambda bx: parallel([20], body)),
        {"a": floats(20, max(extent, 1)), "b": floats(max(extent, 1), 20), "c": floats(2, 20)},
        tolerance=exact_or_close(kind, float32),
    )


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint32", "int64"])
@pytest.mark.parametrize("kind", list(ReduceKind))
def test_integer_reductions_are_exact(kind: ReduceKind, dtype: str) -> None:
    element = as_dtype(dtype)
    a, c = tensor("a", element, 5, 77), tensor("c", element, 5)
    start = {ReduceKind.BIT_AND: 127, ReduceKind.MIN: 100}.get(kind, 3)

    def body(i: Expr) -> Stmt:
        total = reduction(kind, start, 77, lambda r: at(a, i, r), element)
        return seq(total, store(c, [i], total.result))

    check(program([a, c], lambda bx: parallel([5], body)), {"a": integers(5, 77, low=0, dtype=element), "c": integers(5, dtype=element)})


@pytest.mark.parametrize("kind", [ReduceKind.MAX, ReduceKind.MIN])
def test_a_maximum_passes_over_nan(kind: ReduceKind) -> None:
    a, c = tensor("a", float32, 4, 50), tensor("c", float32, 4)
    data = floats(4, 50)
    data[0, ::3] = np.nan
    data[1, 1:] = np.nan
    data[2, :] = np.nan

    def body(i: Expr) -> Stmt:
        found = reduction(kind, at(a, i, 0), 50, lambda r: at(a, i, r), float32)
        return seq(found, store(c, [i], select(found.result < 1e30, found.result, 7.0)))

    check(program([a, c], lambda bx: parallel([2], body)), {"a": data, "c": floats(4)})


def test_any_and_all_over_bools() -> None:
    a, c = tensor("a", int32, 6, 40), tensor("c", bool_, 2, 6)
    data = integers(6, 40, low=0, high=3)
    data[0], data[1] = 0, 1

    def body(i: Expr) -> Stmt:
        some = reduction(ReduceKind.BIT_OR, False, 40, lambda r: at(a, i, r) == 2, bool_)
        every = reduction(ReduceKind.BIT_AND, True, 40, lambda r: at(a, i, r) > 0, bool_)
        return seq(some, every, store(c, [0, i], some.result), store(c, [1, i], every.result))

    check(program([a, c], lambda bx: parallel([6], body)), {"a": data, "c": np.zeros((2, 6), np.bool_)})


def test_a_guarded_reduction() -> None:
    a, c, n = tensor("a", int32, 6, 40), tensor("c", int32, 6), var("n")

    def body(i: Expr) -> Stmt:
        total = reduction(ReduceKind.SUM, 0, 64, lambda r: select((r >= 2) & (r < n), at(a, i, r - 2), 1, is_lazy=True), int32)
        return seq(total, store(c, [i], total.result))

    for limit in (0, 2, 3, 37, 42):
        check(program([a, c, n], lambda bx: parallel([6], body)), {"a": integers(6, 40), "c": integers(6)}, scalars={"n": limit})


def test_reductions_one_after_the_other_use_each_other() -> None:
    a, c = tensor("a", float32, 8, 64), tensor("c", float32, 8, 64)

    def body(i: Expr) -> Stmt:
        peak = reduction(ReduceKind.MAX, float("-inf"), 64, lambda r: at(a, i, r), float32)
        total = reduction(ReduceKind.SUM, 0.0, 64, lambda r: at(a, i, r) - peak.result, float32)
        return seq(peak, total, store(c, [i, 0], total.result))

    check(program([a, c], lambda bx: parallel([8], body)), {"a": floats(8, 64), "c": floats(8, 64)}, tolerance=1e-4)


# -- storage


def test_a_widened_tile_keeps_the_values_of_its_dtype() -> None:
    a, c = tensor("a", float32, 24, 40), tensor("c", float32, 24, 40)
    t = tile("t", float16, 24, 40)
    plans = {t: TilePlan(float32, Storage.ROW_MAJOR, 48)}
    made = program(
        [a, c], lambda bx: seq(parallel([24, 40], lambda i, j: store(t, [i, j], at(a, i, j))), parallel([24, 40], lambda i, j: store(c, [i, j], at(t, i, j))))
    )
    code = check(made, {"a": floats(24, 40), "c": floats(24, 40)}, plans=plans)
    assert code.module.scratch_bytes == (24 * 48 * 4,)


@pytest.mark.parametrize("dtype", ["int4", "uint4", "float4_e2m1fn"])
@pytest.mark.parametrize("extent, shift", [(64, 0), (63, 0), (32, 1), (2, 0)])
def test_two_elements_share_a_byte_in_global_memory(dtype: str, extent: int, shift: int) -> None:
    kind = as_dtype(dtype)
    a, b, c = tensor("a", kind, 70), tensor("b", kind, 70), tensor("c", float32, 70)
    codes = {"a": integers(70, low=0, high=16, dtype=uint8), "b": integers(70, low=0, high=16, dtype=uint8)}
    made = program([a, b, c], lambda bx: parallel([extent], lambda i: seq(store(b, [i + shift], at(a, i)), store(c, [i], cast(at(a, i + shift), float32)))))
    elements = {
        n: (x.view(np.int8) << 4 >> 4 if kind.is_signed and kind.is_integer else x).astype(np.int8).view(kind.numpy) if kind.is_integer else x.view(kind.numpy)
        for n, x in codes.items()
    }
    expected: dict[str, Any] = {**{n: x.copy() for n, x in elements.items()}, "c": np.zeros(70, np.float32)}
    Interpreter(made, expected)
    packed = {n: x[0::2] | x[1::2] << 4 for n, x in codes.items()}
    result = np.zeros(70, np.float32)
    native(made)({**packed, "c": result})
    np.testing.assert_array_equal(result, expected["c"])
    raw = expected["b"].view(np.uint8) & 15
    np.testing.assert_array_equal(packed["b"], raw[0::2] | raw[1::2] << 4)


# -- everything at once

EXTENTS = (1, 3, 4, 8, 13, 16, 33)


class RandomBody:
    """A parallel nest of random statements; every index lies inside its buffer or is guarded."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.m, self.n = (int(self.rng.choice(EXTENTS)) for _ in range(2))
        self.a, self.c, self.d, self.e = (tensor(name, int32, self.m, self.n) for name in "acde")
        self.row, self.t, self.k = tensor("row", int32, self.n), tile("t", int32, self.m, self.n), var("k")

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def access(self, buffer: Buffer, i: Expr, j: Expr) -> Expr:
        shift = int(self.rng.integers(-3, 4))
        match self.rng.integers(8):
            case 6:
                place = at(self.row, j)
                return select((place >= 0) & (place < self.n), at(buffer, i, place), place, is_lazy=True)
            case 7:
                place = at(self.row, self.n // 2) + shift
                return select((j > 1) & (place >= 0) & (place < self.n), at(buffer, i, place), 3, is_lazy=True)
            case 0:
                return at(buffer, i, self.n - 1 - j)
            case 1:
                return at(buffer, i, j // int(self.rng.integers(1, 5)))
            case 2:
                return at(buffer, i, 0)
            case 3:
                guard = (j + shift >= 0) & (j + shift < self.n)
                return select(guard, at(buffer, i, j + shift), const(int(self.rng.integers(9))), is_lazy=True)
            case 4:
                guard = (i + shift >= 0) & (i + shift < self.m)
                return select(guard, at(buffer, i + shift, j), j, is_lazy=True)
        return at(buffer, i, j)

    def expression(self, i: Expr, j: Expr, depth: int = 2) -> Expr:
        if depth == 0:
            match self.rng.integers(6):
                case 0:
                    return self.pick(i, j, self.k, const(int(self.rng.integers(-20, 20))))
                case 1:
                    return at(self.row, j)
                case 2:
                    return self.access(self.t, i, j)
            return self.access(self.a, i, j)
        x, y = self.expression(i, j, depth - 1), self.expression(i, j, depth - 1)
        match self.rng.integers(9):
            case 0:
                return x * y
            case 1:
                return binary(self.pick(Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD), x, self.pick(3, 4, -5, (y & 7) + 1))
            case 2:
                return self.pick(minimum, maximum)(x, y)
            case 3:
                return select(self.condition(i, j, x), x, y, is_lazy=bool(self.rng.integers(2)))
            case 4:
                return binary(self.pick(Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR), x, y)
            case 5:
                return x - y
        return x + y

    def condition(self, i: Expr, j: Expr, x: Expr) -> Expr:
        limit = int(self.rng.integers(-2, self.n + 2))
        return self.pick(j < limit, j >= limit, i + j < limit, j * 2 > i, (j >= 2) & (i < limit), j < self.k, x > 0, (i < limit) | (j == 2), i == 1)

    def statement(self, i: Expr, j: Expr) -> Stmt:
        target = self.pick(self.c, self.d)
        match self.rng.integers(9):
            case 7:
                x = tile("x", int32, 1, scope=Scope.VARIABLE)
                return seq(
                    store(x, [0], self.expression(i, j, 1)),
                    when(self.condition(i, j, at(x, 0)), store(x, [0], at(x, 0) - self.expression(i, j, 1))),
                    store(target, [i, j], at(x, 0)),
                )
            case 8:
                there = self.n - 1 - j
                return seq(
                    store(self.e, [i, there], 1), when(self.condition(i, j, self.expression(i, j, 0)), store(self.e, [i, there], self.expression(i, j, 1)))
                )
            case 0:
                return when(
                    self.condition(i, j, self.expression(i, j, 0)),
                    store(target, [i, j], self.expression(i, j)),
                    self.pick(None, store(target, [i, j], self.expression(i, j, 1))),
                )
            case 1:
                return let(int32, self.expression(i, j), lambda x: store(target, [i, j], x * 3 + x))
            case 2:
                total = reduction(self.pick(*ReduceKind), at(self.a, i, j), self.n, lambda r: self.access(self.a, i, r) + self.pick(j, 1), int32)
                return seq(total, store(target, [i, j], total.result))
            case 3:
                return serial(3, lambda s: store(target, [i, j], at(target, i, j) * s + self.expression(i, j, 1)))
            case 4:
                return store(target, [i, j], at(target, i, j) + self.expression(i, j, 1))
        return store(target, [i, j], self.expression(i, j))

    def check(self) -> None:
        def body(bx: Expr) -> Stmt:
            fill = parallel([self.m, self.n], lambda i, j: store(self.t, [i, j], at(self.a, i, j) * 3 + i))
            return seq(fill, parallel([self.m, self.n], lambda i, j: seq(*(self.statement(i, j) for _ in range(int(self.rng.integers(1, 4)))))))

        shape = (self.m, self.n)
        check(
            program([self.a, self.c, self.d, self.e, self.row, self.k], body),
            {**{name: integers(*shape) for name in "acde"}, "row": integers(self.n)},
            scalars={"k": int(self.rng.integers(-3, 40))},
            target=self.pick(host_target(), GENERIC_128) if host_target().vector_bytes > 16 and "x86_64" in host_target().triple else host_target(),
        )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_random_bodies_give_what_the_interpreter_gives(seed: int) -> None:
    RandomBody(seed).check()


def test_guards_that_leave_no_turn_do_not_lengthen_the_loop() -> None:
    """One guard holds from beyond the last turn on, the other nowhere: the stretch of both ends where it begins, which is at the end of the loop at most."""
    a, d = tensor("a", int32, 33, 4), tensor("d", int32, 33, 4)

    def turn(i: Expr, j: Expr) -> Stmt:
        return when(j * 2 > i, store(d, [i, j], select((j >= 2) & (i < -2), at(a, i, j), 1, is_lazy=True)), store(d, [i, j], 2))

    memory = np.full(33 * 4 + 64, 77, np.int32)
    native(program([a, d], lambda bx: parallel([33, 4], turn)))({"a": integers(33, 4), "d": memory[: 33 * 4].reshape(33, 4)})
    i, j = np.mgrid[:33, :4]
    np.testing.assert_array_equal(memory, [*np.where(j * 2 > i, 1, 2).ravel(), *[77] * 64])


@pytest.mark.parametrize("target", [GENERIC_128, AVX2, NEON], ids=lambda t: t.name)
def test_other_targets_compile(target: Any) -> None:
    from tilewright.codegen.llvm.program import emit_program
    from tilewright.runtime.llvm_jit import compile_object

    a, c = tensor("a", float16, 70, 40), tensor("c", float32, 70)

    def body(i: Expr) -> Stmt:
        total = reduction(ReduceKind.SUM, 0.0, 40, lambda r: cast(at(a, i, r), float32), float32)
        return seq(total, store(c, [i], total.result))

    assert compile_object(emit_program(program([a, c], lambda bx: parallel([70], body)), {}, target).text, target)


# -- conditions and stores that concern a whole loop


def test_a_condition_that_no_turn_changes_is_asked_in_front_of_the_loop() -> None:
    m = var("m")
    a, c, total = tensor("a", float32, m, 128), tensor("c", float32, 4, 128), tensor("total", float32, 4)

    def row(i: Expr) -> Stmt:
        element = reduction(ReduceKind.SUM, 0.0, 128, lambda r: select(i < m, at(a, i, r), const(2.0), is_lazy=True), float32)
        return seq(parallel([128], lambda j: when(i < m, store(c, [i, j], at(a, i, j)))), element, store(total, [i], element.result))

    made = program([a, c, total], lambda bx: serial(4, row))
    for rows in (0, 2, 4):
        arrays = {"a": floats(rows, 128), "c": floats(4, 128), "total": floats(4)}
        code = check(made, arrays, symbols={"m": rows}, tolerance=1e-5)
    assert code.module.text.count("holds.0:") == 1 and code.module.text.count("holds.1:") == 1


@pytest.mark.skipif(not host_target().triple.startswith("x86_64"), reason="only x86-64 targets have such stores")
@pytest.mark.parametrize("first", [0, 3])
def test_results_larger_than_the_caches_are_written_past_them(first: int) -> None:
    n = var("n")
    a, c = tensor("a", float32, n), tensor("c", float32, n)
    target = dataclasses.replace(host_target(), streaming_bytes=4096)
    for extent in (1000, 1024, 5000):
        storage = np.zeros(extent + 32, np.float32)
        aligned = (-storage.ctypes.data // 4) % 16 + first
        arrays = {"a": floats(extent), "c": storage[aligned : aligned + extent]}
        code = native(program([a, c], lambda bx: parallel([n], lambda i: store(c, [i], at(a, i) * 3.0))), None, target)
        code(arrays, symbols={"n": extent})
        np.testing.assert_array_equal(arrays["c"], arrays["a"] * 3)
    assert "!nontemporal" in code.module.text and "sfence" in code.module.text


def test_a_tensor_that_is_read_too_stays_in_the_caches() -> None:
    a, c = tensor("a", float32, 1 << 20), tensor("c", float32, 1 << 20)
    target = dataclasses.replace(host_target(), streaming_bytes=64)
    for made in (
        program([a, c], lambda bx: parallel([1 << 20], lambda i: store(c, [i], at(c, i) * 3.0))),
        program([a, c], lambda bx: parallel([1 << 20], lambda i: when(i > 5, store(c, [i], at(a, i))))),
        program([a, c], lambda bx: parallel([1 << 19], lambda i: store(c, [i * 2], at(a, i)))),
        program([a, c], lambda bx: parallel([1 << 18], lambda i: serial(4, lambda k: store(c, [k * (1 << 18) + i], at(a, i))))),
    ):
        assert "!nontemporal" not in emit_program(made, {}, target).text
