"""The reference interpreter against plain numpy, on programs built by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import Kind, Span, TileError
from tilewright.ir.buffer import Buffer, Region, Scope, whole
from tilewright.ir.expr import Expr, as_expr, binary, cast, const, load, select, var
from tilewright.ir.expr import Op as ExprOp
from tilewright.ir.program import HostCheck, Launch, Parameter, ParameterKind, Program
from tilewright.ir.stmt import (
    Assert,
    AtomicKind,
    AtomicUpdate,
    Break,
    Continue,
    For,
    If,
    Let,
    LoopKind,
    ParallelFor,
    Print,
    ReduceKind,
    ReduceLoop,
    Seq,
    Stmt,
    Store,
    While,
)
from tilewright.ir.tileop import Effects, ReferenceEnvironment, TileOp
from tilewright.reference import ReferenceOptions, run_reference

HERE = Span("kernel.py", 7)
F32, I32 = dtypes.float32, dtypes.int32


def tensor(name: str, shape: Any, dtype: DType = F32, **kwargs: Any) -> Buffer:
    return Buffer(name, dtype, tuple(shape), Scope.GLOBAL, HERE, **kwargs)


def tile(name: str, shape: Any, dtype: DType = F32, scope: Scope = Scope.SHARED, **kwargs: Any) -> Buffer:
    return Buffer(name, dtype, tuple(shape), scope, HERE, **kwargs)


def at(buffer: Buffer, *indices: Any) -> Expr:
    return load(buffer, tuple(as_expr(i) for i in indices))


def put(buffer: Buffer, indices: Any, value: Any) -> Store:
    where = indices if isinstance(indices, tuple) else (indices,)
    return Store(HERE, buffer, tuple(as_expr(i) for i in where), cast(as_expr(value), buffer.dtype))


def seq(*body: Stmt) -> Seq:
    return Seq(HERE, body)


def loop(variable: Expr, extent: Any, *body: Stmt) -> For:
    return For(HERE, variable, as_expr(extent), LoopKind.SERIAL, seq(*body))


def parallel(variables: Any, extents: Any, *body: Stmt) -> ParallelFor:
    names, sizes = (variables, extents) if isinstance(variables, tuple) else ((variables,), (extents,))
    return ParallelFor(HERE, names, tuple(as_expr(n) for n in sizes), seq(*body))


def launch(*body: Stmt, grid: Any = (1,), blocks: Any = None, threads: int = 128, buffers: Any = (), **kwargs: Any) -> Launch:
    blocks = blocks or tuple(var(f"b{i}") for i in range(len(grid)))
    extents, thread_variables = tuple(as_expr(n) for n in grid), (var("tx"), var("ty"), var("tz"))
    return Launch(extents, tuple(blocks), (threads, 1, 1), thread_variables, tuple(buffers), seq(*body), HERE, **kwargs)


def program(parameters: Any, *launches: Launch, outputs: Any = (), **kwargs: Any) -> Program:
    made = []
    for p in parameters:
        if isinstance(p, Buffer):
            made.append(Parameter(p.name, ParameterKind.TENSOR, HERE, buffer=p, is_output=any(p is o for o in outputs)))
        else:
            made.append(Parameter(p.name, ParameterKind.POINTER if p.dtype == dtypes.handle else ParameterKind.SCALAR, HERE, variable=p))
    return Program("kernel", tuple(made), launches, HERE, **kwargs)


def run(
    parameters: Any, *body: Stmt, given: dict[str, Any], outputs: Any = (), options: ReferenceOptions | None = None, **kwargs: Any
) -> dict[str, np.ndarray]:
    return run_reference(program(parameters, launch(*body, **kwargs), outputs=outputs), given, options)


def kind_of(call: Any) -> Kind:
    with pytest.raises(TileError) as caught:
        call()
    return caught.value.diagnostic.kind


@dataclass(frozen=True, eq=False)
class Double(TileOp):
    """An operation for these tests: dst = 2 * src."""

    src: Region
    dst: Region
    scale: Expr

    def effects(self) -> Effects:
        return Effects((self.src,), (self.dst,))

    def reference(self, environment: ReferenceEnvironment) -> None:
        boxes = [tuple(slice(s, s + n) for s, n in environment.box(r)) for r in (self.src, self.dst)]
        environment.array(self.dst.buffer)[boxes[1]] = environment.value(self.scale) * environment.array(self.src.buffer)[boxes[0]]


def test_parallel_loop_over_a_box_with_outside_accesses() -> None:
    a, b = tensor("A", (5, 7)), tensor("B", (5, 7))
    i, j = var("i"), var("j")
    x = np.arange(35, dtype=np.float32).reshape(5, 7)
    got = run((a, b), parallel((i, j), (8, 8), put(b, (i, j), at(a, i - 1, j) * 2 + 1)), given={"A": x, "B": np.zeros((5, 7), np.float32)})
    assert np.array_equal(got["B"], np.vstack([np.ones((1, 7)), 2 * x[:-1] + 1]))
    assert np.array_equal(got["A"], x)


def test_safe_value_replaces_what_lies_outside() -> None:
    a, b = tensor("A", (3,)), tensor("B", (6,))
    i = var("i")
    got = run((a, b), parallel(i, 6, put(b, i, at(a, i - 2))), given={"A": np.ones(3, np.float32), "B": np.zeros(6, np.float32)}, safe_values=((a, const(-7)),))
    assert got["B"].tolist() == [-7, -7, 1, 1, 1, -7]


def test_caller_arrays_are_not_touched() -> None:
    a = tensor("A", (4,))
    x = np.zeros(4, np.float32)
    got = run((a,), parallel(i := var("i"), 4, put(a, i, 3)), given={"A": x})
    assert x.tolist() == [0] * 4 and got["A"].tolist() == [3] * 4


def test_the_same_array_given_twice_stays_one() -> None:
    a, b = tensor("A", (4,)), tensor("B", (4,))
    x = np.arange(4, dtype=np.float32)
    got = run((a, b), put(a, 0, 9), put(b, 1, at(a, 0) + at(b, 0)), given={"A": x, "B": x})
    assert got["A"].tolist() == got["B"].tolist() == [9, 18, 2, 3]


def test_branches_write_their_own_lanes() -> None:
    y = tensor("Y", (12,), I32)
    i = var("i")
    body = If(HERE, i % 3 == 0, put(y, i, 100 + i), If(HERE, i > 8, put(y, i, -i)))
    got = run((y,), parallel(i, 12, body), given={"Y": np.full(12, 5, np.int32)})
    n = np.arange(12)
    assert np.array_equal(got["Y"], np.where(n % 3 == 0, 100 + n, np.where(n > 8, -n, 5)))


def test_if_then_else_protects_loads_of_tiles() -> None:
    s, y = tile("s", (4,)), tensor("Y", (8,))
    i, k = var("i"), var("k")
    value = select(i < 4, at(s, i), const(0.0), is_lazy=True)
    got = run((y,), parallel(k, 4, put(s, k, k)), parallel(i, 8, put(y, i, value)), given={"Y": np.ones(8, np.float32)}, buffers=(s,))
    assert got["Y"].tolist() == [0, 1, 2, 3, 0, 0, 0, 0]


def test_serial_loop_with_trip_counts_that_differ_by_lane() -> None:
    y = tensor("Y", (9,), I32)
    total = tile("total", (1,), I32, Scope.VARIABLE)
    i, k = var("i"), var("k")
    body = (put(total, 0, 0), loop(k, i - 2, put(total, 0, at(total, 0) + k * k)), put(y, i, at(total, 0)))
    got = run((y,), parallel(i, 9, *body), given={"Y": np.zeros(9, np.int32)}, buffers=(total,))
    assert got["Y"].tolist() == [sum(k * k for k in range(i - 2)) for i in range(9)]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-3, 9), min_size=1, max_size=30), st.integers(1, 6))
def test_break_and_continue_by_lane(values: list[int], rows: int) -> None:
    grid = np.resize(np.array(values, np.int32), (rows, 7))
    x, y = tensor("X", grid.shape, I32), tensor("Y", (rows,), I32)
    total = tile("total", (1,), I32, Scope.VARIABLE)
    i, k, v = var("i"), var("k"), var("v")
    turn = (Let(HERE, v, at(x, i, k)), If(HERE, v < 0, Break(HERE)), If(HERE, v % 2 != 0, Continue(HERE)), put(total, 0, at(total, 0) + v))
    body = (put(total, 0, 0), loop(k, 7, *turn), put(y, i, at(total, 0)))
    got = run((x, y), parallel(i, rows, *body), given={"X": grid, "Y": np.zeros(rows, np.int32)}, buffers=(total,))

    def expected(row: Any) -> int:
        kept = [int(n) for n in row[: int(np.argmax(row < 0))] if n % 2 == 0] if (row < 0).any() else [int(n) for n in row if n % 2 == 0]
        return sum(kept)

    assert got["Y"].tolist() == [expected(r) for r in grid]


def test_while_by_lane_counts_collatz_steps() -> None:
    y = tensor("Y", (30,), I32)
    n, steps = (tile(name, (1,), I32, Scope.VARIABLE) for name in ("n", "steps"))
    i = var("i")
    turn = While(HERE, at(n, 0) != 1, seq(If(HERE, at(n, 0) % 2 == 0, put(n, 0, at(n, 0) // 2), put(n, 0, 3 * at(n, 0) + 1)), put(steps, 0, at(steps, 0) + 1)))
    got = run((y,), parallel(i, 30, put(n, 0, i + 1), put(steps, 0, 0), turn, put(y, i, at(steps, 0))), given={"Y": np.zeros(30, np.int32)}, buffers=(n, steps))

    def collatz(m: int) -> int:
        count = 0
        while m != 1:
            m, count = (m // 2 if m % 2 == 0 else 3 * m + 1), count + 1
        return count

    assert got["Y"].tolist() == [collatz(m + 1) for m in range(30)]


def test_block_level_loops_and_variables() -> None:
    y = tensor("Y", (10,), I32)
    a, b = (tile(name, (1,), I32, Scope.VARIABLE) for name in "ab")
    i, t = var("i"), var("t")
    body = (put(b, 0, 1), loop(i, 10, put(y, i, at(a, 0)), Let(HERE, t, at(a, 0) + at(b, 0)), put(a, 0, at(b, 0)), put(b, 0, t)))
    got = run((y,), *body, given={"Y": np.zeros(10, np.int32)}, buffers=(a, b))
    assert got["Y"].tolist() == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]


def test_local_arrays_belong_to_their_iteration() -> None:
    x, y = tensor("X", (6, 3)), tensor("Y", (6,))
    p = tile("p", (3,), F32, Scope.LOCAL)
    i, k = var("i"), var("k")
    body = (loop(k, 3, put(p, k, at(x, i, k) * (k + 1))), put(y, i, at(p, 0) + at(p, 1) + at(p, 2)))
    data = np.arange(18, dtype=np.float32).reshape(6, 3)
    got = run((x, y), parallel(i, 6, *body), given={"X": data, "Y": np.zeros(6, np.float32)}, buffers=(p,))
    assert np.array_equal(got["Y"], data @ np.array([1, 2, 3], np.float32))


def test_tiles_begin_poisoned_and_variables_zero() -> None:
    y = tensor("Y", (1,))
    z = tensor("Z", (2,), I32)
    f, n, v = tile("f", (1,)), tile("n", (1,), I32), tile("v", (1,), I32, Scope.VARIABLE)
    body = (put(y, 0, at(f, 0)), put(z, 0, at(n, 0)), put(z, 1, at(v, 0)))
    got = run((y, z), *body, given={"Y": np.zeros(1, np.float32), "Z": np.zeros(2, np.int32)}, buffers=(f, n, v))
    assert np.isnan(got["Y"][0]) and got["Z"].tolist() == [0x5A5A5A5A, 0]


def test_what_unwritten_elements_hold_can_be_chosen() -> None:
    y, f = tensor("Y", (1,)), tile("f", (1,))
    options = ReferenceOptions(initial=lambda dtype: dtype.numpy.type(3))
    assert run((y,), put(y, 0, at(f, 0)), given={"Y": np.zeros(1, np.float32)}, buffers=(f,), options=options)["Y"].tolist() == [3]


def test_tiles_are_fresh_in_every_block() -> None:
    y, s, b = tensor("Y", (3,)), tile("s", (1,)), var("b")
    got = run((y,), put(y, b, at(s, 0)), put(s, 0, 1), given={"Y": np.zeros(3, np.float32)}, grid=(3,), blocks=(b,), buffers=(s,))
    assert np.isnan(got["Y"]).all()


@pytest.mark.parametrize("is_reversed", [False, True])
def test_grids_run_all_blocks_x_first(is_reversed: bool) -> None:
    y, n = tensor("Y", (2, 3, 4), I32), tile("n", (1,), I32, Scope.GLOBAL)
    blocks = tuple(var(name) for name in ("x", "y", "z"))
    body = (put(y, (blocks[2], blocks[1], blocks[0]), at(n, 0)), put(n, 0, at(n, 0) + 1))
    made = program((y, n), launch(*body, grid=(4, 3, 2), blocks=blocks))
    options = ReferenceOptions(block_order=(lambda count: range(count)[::-1]) if is_reversed else range)
    got = run_reference(made, {"Y": np.zeros((2, 3, 4), np.int32), "n": np.zeros(1, np.int32)}, options)["Y"]
    assert got.ravel().tolist() == list(range(24))[:: -1 if is_reversed else 1]


def test_launches_run_one_after_the_other_through_a_workspace() -> None:
    x, y, w = tensor("X", (8,)), tensor("Y", (8,)), tensor("W", (8,))
    i, j = var("i"), var("j")
    made = program((x, y), launch(parallel(i, 8, put(w, i, at(x, i) + 1))), launch(parallel(j, 8, put(y, j, at(w, 7 - j)))), workspaces=(w,))
    data = np.arange(8, dtype=np.float32)
    assert np.array_equal(run_reference(made, {"X": data, "Y": data})["Y"], data[::-1] + 1)


def test_an_empty_grid_runs_nothing() -> None:
    n, y = var("n"), tensor("Y", (1,))
    assert run((y, n), put(y, 0, 1), given={"Y": np.zeros(1, np.float32), "n": 0}, grid=(n,))["Y"].tolist() == [0]


def test_tile_operations_see_blocks_regions_and_values() -> None:
    x, y, s = tensor("X", (4, 6)), tensor("Y", (4, 6)), tile("s", (1, 6))
    b, scale = var("b"), var("scale", F32)
    row = Region(x, (b, const(0)), (1, 6), (False, True), HERE)
    out = Region(y, (b, const(0)), (1, 6), (False, True), HERE)
    data = np.arange(24, dtype=np.float32).reshape(4, 6)
    got = run(
        (x, y, scale),
        Double(HERE, row, whole(s), scale),
        Double(HERE, whole(s), out, as_expr(2.0)),
        given={"X": data, "Y": 0 * data, "scale": 3},
        grid=(4,),
        blocks=(b,),
        buffers=(s,),
    )
    assert np.array_equal(got["Y"], 6 * data)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([AtomicKind.ADD, AtomicKind.MAX, AtomicKind.MIN, AtomicKind.XOR, AtomicKind.OR, AtomicKind.AND]), st.integers(0, 5), st.integers(1, 40))
def test_atomics_combine_every_lane(kind: AtomicKind, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    targets, values = rng.integers(-1, 5, count).astype(np.int32), rng.integers(-9, 9, count).astype(np.int32)
    t, v, y = tensor("T", (count,), I32), tensor("V", (count,), I32), tensor("Y", (4,), I32)
    i = var("i")
    body = parallel(i, count, AtomicUpdate(HERE, kind, y, (at(t, i),), at(v, i)))
    got = run((t, v, y), body, given={"T": targets, "V": values, "Y": np.arange(4, dtype=np.int32)})
    python = {
        AtomicKind.ADD: lambda a, b: a + b,
        AtomicKind.MAX: max,
        AtomicKind.MIN: min,
        AtomicKind.XOR: lambda a, b: a ^ b,
        AtomicKind.OR: lambda a, b: a | b,
        AtomicKind.AND: lambda a, b: a & b,
    }[kind]
    expected = list(range(4))
    for place, value in zip(targets.tolist(), values.tolist(), strict=True):
        if 0 <= place < 4:
            expected[place] = python(expected[place], value)
    assert got["Y"].tolist() == expected


def test_atomics_give_what_was_there() -> None:
    counter, y = tensor("C", (1,), I32), tensor("Y", (20,), I32)
    i, old = var("i"), var("old")
    got = run(
        (counter, y),
        parallel(i, 20, AtomicUpdate(HERE, AtomicKind.ADD, counter, (const(0),), const(1), previous=old), put(y, i, old)),
        given={"C": np.zeros(1, np.int32), "Y": np.zeros(20, np.int32)},
    )
    assert got["C"].tolist() == [20] and sorted(got["Y"]) == list(range(20))


def test_a_straight_line_atomic_runs_once_per_thread() -> None:
    c = tensor("C", (2,), I32)
    body = (AtomicUpdate(HERE, AtomicKind.ADD, c, (const(0),), const(3)), AtomicUpdate(HERE, AtomicKind.MAX, c, (const(1),), const(3)))
    assert run((c,), *body, given={"C": np.zeros(2, np.int32)}, threads=96)["C"].tolist() == [288, 3]


@pytest.mark.parametrize(("kind", "combine"), [(ReduceKind.SUM, np.sum), (ReduceKind.MAX, np.max), (ReduceKind.MIN, np.min)])
@pytest.mark.parametrize("dtype", [F32, I32, dtypes.float16])
def test_reduce_loop_with_extents_that_differ_by_lane(kind: ReduceKind, combine: Any, dtype: DType) -> None:
    x, y = tensor("X", (5, 9), dtype), tensor("Y", (5,), dtype)
    i, k, r = var("i"), var("k"), var("r", dtype)
    data = np.random.default_rng(1).integers(-20, 20, (5, 9)).astype(dtype.numpy)
    body = (ReduceLoop(HERE, r, kind, at(x, i, 0), k, i * 2, at(x, i, k + 1)), put(y, i, r))
    got = run((x, y), parallel(i, 5, *body), given={"X": data, "Y": np.zeros(5, dtype.numpy)})
    assert np.array_equal(got["Y"], [combine(row[: 1 + 2 * n]).astype(dtype.numpy) for n, row in enumerate(data)])


def test_sixteen_bit_arithmetic_rounds_after_every_operation() -> None:
    bf16 = dtypes.bfloat16
    x, y = tensor("X", (64,), bf16), tensor("Y", (64,), bf16)
    i = var("i")
    data = np.random.default_rng(0).normal(size=64).astype(bf16.numpy)
    got = run((x, y), parallel(i, 64, put(y, i, at(x, i) * at(x, i) + at(x, i))), given={"X": data, "Y": data})
    wide = data.astype(np.float32)
    assert np.array_equal(got["Y"], ((wide * wide).astype(bf16.numpy).astype(np.float32) + wide).astype(bf16.numpy))


def test_views_share_memory_and_reinterpret_bits() -> None:
    s = tile("s", (2, 4))
    flat, raw = tile("flat", (8,), source=s), tile("raw", (4, 2), dtypes.uint32, source=s)
    y = tensor("Y", (8,), dtypes.uint32)
    i, j = var("i"), var("j")
    body = (parallel(i, 8, put(flat, i, i)), parallel(j, 8, put(y, j, at(raw, j // 2, j % 2))))
    got = run((y,), *body, given={"Y": np.zeros(8, np.uint32)}, buffers=(s, flat, raw))
    assert np.array_equal(got["Y"], np.arange(8, dtype=np.float32).view(np.uint32))


def test_four_bit_views_are_packed_low_nibble_first() -> None:
    s = tile("s", (8,), dtypes.int4)
    octets = tile("octets", (4,), dtypes.uint8, source=s)
    y, z = tensor("Y", (4,), dtypes.uint8), tensor("Z", (8,), dtypes.int4)
    i, j, k, m = var("i"), var("j"), var("k"), var("m")
    body = (parallel(i, 8, put(s, i, i - 4)), parallel(j, 4, put(y, j, at(octets, j))), put(octets, 0, 0x21), parallel(k, 8, put(z, k, at(s, k))))
    got = run((y, z), *body, given={"Y": np.zeros(4, np.uint8), "Z": np.zeros(8, ml_dtypes.int4)}, buffers=(s, octets))
    assert got["Y"].tolist() == [0xDC, 0xFE, 0x10, 0x32]
    assert got["Z"].astype(int).tolist() == [1, 2, -2, -1, 0, 1, 2, 3]
    x = tensor("X", (8,), dtypes.int4)
    octets_given = {"X": np.array([0x21, 0xFE, 0, 0x78], np.uint8), "Z": np.zeros(4, np.int8)}
    packed = run((z, x), parallel(m, 8, put(z, m, at(x, m))), given=octets_given)
    assert packed["Z"].view(np.uint8).tolist() == [0x21, 0xFE, 0, 0x78] and packed["Z"].dtype == np.int8


def test_symbols_are_solved_from_derived_dimensions_and_strides() -> None:
    n, m, s = var("n"), var("m"), var("s")
    a, b, y = tensor("A", (n * 2 + 1,)), tensor("B", (n + m, 3), given_strides=(s, 1)), tensor("Y", (3,), I32)
    body = (put(y, 0, n), put(y, 1, m), put(y, 2, s))
    given = {"A": np.zeros(11, np.float32), "B": np.zeros((7, 8), np.float32)[:, :3], "Y": np.zeros(3, np.int32)}
    assert run((a, b, y), *body, given=given)["Y"].tolist() == [5, 2, 8]
    assert kind_of(lambda: run((a, b, y), *body, given={**given, "A": np.zeros(10, np.float32)})) is Kind.ARGUMENT_SYMBOL
    other = tensor("C", (n,))
    assert kind_of(lambda: run((a, b, y, other), *body, given={**given, "C": np.zeros(6, np.float32)})) is Kind.ARGUMENT_SYMBOL


def test_outputs_are_allocated_from_symbols() -> None:
    n, i = var("n"), var("i")
    x, y = tensor("X", (n,)), tensor("Y", (n * 2,))
    got = run((x, y), parallel(i, n, put(y, i * 2, at(x, i))), given={"X": np.arange(3, dtype=np.float32)}, outputs=(y,))["Y"]
    assert got[::2].tolist() == [0, 1, 2] and np.isnan(got[1::2]).all()


def test_strided_arguments_are_read_in_place() -> None:
    x, y = tensor("X", (3, 4), given_strides=(1, 3)), tensor("Y", (3, 4))
    i, j = var("i"), var("j")
    data = np.arange(12, dtype=np.float32).reshape(4, 3).T
    assert np.array_equal(run((x, y), parallel((i, j), (3, 4), put(y, (i, j), at(x, i, j))), given={"X": data, "Y": np.zeros((3, 4), np.float32)})["Y"], data)
    plain = tensor("X", (3, 4))
    assert np.array_equal(run((plain,), put(plain, (0, 0), 0), given={"X": data})["X"], data)


def test_the_stride_of_a_single_row_is_not_checked() -> None:
    s = var("s")
    x, y = tensor("X", (1, 4), given_strides=(s, 1)), tensor("Y", (1,), I32)
    data = np.arange(4, dtype=np.float32).reshape(1, 4)
    assert run((x, y), put(y, 0, s + at(x, 0, 3).astype(I32)), given={"X": data, "Y": np.zeros(1, np.int32)})["Y"].tolist() == [7]
    fixed = tensor("X", (1, 4), given_strides=(9, 1))
    assert run((fixed, y), put(y, 0, at(fixed, 0, 3).astype(I32)), given={"X": data, "Y": np.zeros(1, np.int32)})["Y"].tolist() == [3]


def test_pointers_lead_to_the_arrays_they_were_made_from() -> None:
    p, i, j = var("p", dtypes.handle), var("i"), var("j")
    over = tensor("over", (4,), pointer=p)
    table = tensor("table", (2,), dtypes.int64)
    picked = tensor("picked", (4,), pointer=cast(at(table, 1), dtypes.uint64))
    y = tensor("Y", (4,))
    first, second = np.arange(4, dtype=np.float32), 10 * np.arange(4, dtype=np.float32)
    made = program((p, table, y), launch(parallel(i, 4, put(y, i, at(over, i) + at(picked, i))), parallel(j, 4, put(picked, j, 0))))
    given = {"p": first, "table": np.array([0, second.ctypes.data], np.int64), "Y": np.zeros(4, np.float32)}
    assert np.array_equal(run_reference(made, given, pointees=(second,))["Y"], 11 * np.arange(4))
    assert kind_of(lambda: run_reference(made, given)) is Kind.ARGUMENT_KIND


def test_indices_outside_a_tile_are_reported_with_their_place() -> None:
    s, i = tile("s", (4,)), var("i")
    with pytest.raises(TileError) as caught:
        run((), parallel(i, 6, put(s, i + 1, 0)), given={}, buffers=(s,))
    diagnostic = caught.value.diagnostic
    assert diagnostic.kind is Kind.INDEX_RANGE and "[4]" in diagnostic.message and "s" in diagnostic.message and diagnostic.labels[0].span is HERE
    j = var("j")
    y = tensor("Y", (9,))
    reading = parallel(j, 9, put(y, j, at(s, j)))
    assert kind_of(lambda: run((y,), reading, given={"Y": np.zeros(9, np.float32)}, buffers=(s,))) is Kind.INDEX_RANGE


def test_races_are_reported() -> None:
    s, y, i = tile("s", (8,)), tensor("Y", (8,)), var("i")
    begin = parallel(k := var("k"), 8, put(s, k, k))
    racing = {"all write one element": put(s, 0, i), "a neighbour's element is read": put(s, i, at(s, (i + 1) % 8))}
    given = {"Y": np.zeros(8, np.float32)}
    for body in racing.values():
        assert kind_of(lambda body=body: run((y,), begin, parallel(i, 8, body), given=given, buffers=(s,))) is Kind.PARALLEL_RACE
        run((y,), begin, parallel(i, 8, body), given=given, buffers=(s,), options=ReferenceOptions(is_detecting_races=False))
    two = (put(s, i, at(s, i) + 1), put(y, i, at(s, 7 - i)))
    assert kind_of(lambda: run((y,), begin, parallel(i, 8, *two), given=given, buffers=(s,))) is Kind.PARALLEL_RACE
    harmless = (put(s, i, at(s, i) + 1), put(s, i, at(s, i) * 2), put(y, 3, 5))
    assert run((y,), begin, parallel(i, 8, *harmless), given=given, buffers=(s,))["Y"][3] == 5


def test_nested_parallel_loops_are_one_box() -> None:
    y, s, i, j = tensor("Y", (6, 6), I32), tile("s", (6,), I32), var("i"), var("j")
    got = run((y,), parallel(i, 6, parallel(j, i + 1, put(y, (i, j), i * 10 + j))), given={"Y": np.full((6, 6), -1, np.int32)}, buffers=(s,))["Y"]
    assert np.array_equal(got, [[i * 10 + j if j <= i else -1 for j in range(6)] for i in range(6)])
    assert np.array_equal(run((y,), parallel((i, j), (6, i + 1), put(y, (i, j), i * 10 + j)), given={"Y": np.full((6, 6), -1, np.int32)})["Y"], got)
    assert kind_of(lambda: run((y,), parallel(i, 6, parallel(j, 6, put(s, j, i))), given={"Y": got}, buffers=(s,))) is Kind.PARALLEL_RACE
    k = var("k")
    got = run((y,), parallel(i, 6, put(s, i, i * i), parallel(k, 6, put(y, (i, k), at(s, i) + k))), given={"Y": got}, buffers=(s,))["Y"]
    assert np.array_equal(got, np.add.outer(np.arange(6) ** 2, np.arange(6)))


def test_arguments_that_do_not_fit_are_refused() -> None:
    n, a = var("n"), tensor("A", (4, 2))
    good = {"A": np.zeros((4, 2), np.float32), "n": 1}
    cases: list[tuple[dict[str, Any], Kind]] = [
        ({"A": good["A"]}, Kind.MISSING_ARGUMENT),
        ({**good, "B": 1}, Kind.UNKNOWN_ARGUMENT),
        ({**good, "A": np.zeros(4, np.float32)}, Kind.ARGUMENT_RANK),
        ({**good, "A": np.zeros((4, 3), np.float32)}, Kind.ARGUMENT_SHAPE),
        ({**good, "A": np.zeros((4, 2))}, Kind.ARGUMENT_DTYPE),
        ({**good, "n": 1.5}, Kind.ARGUMENT_SCALAR),
        ({**good, "n": 1 << 40}, Kind.ARGUMENT_SCALAR),
        ({**good, "A": None}, Kind.ARGUMENT_NONE),
    ]
    for arguments, kind in cases:
        assert kind_of(lambda arguments=arguments: run((a, n), put(a, (0, 0), n), given=arguments)) is kind
    assert run((a, n), given={"A": None, "n": 1}) == {}


def test_checks_asserts_and_symbols_are_reported() -> None:
    n, m, a = var("n"), var("m"), tensor("A", (1,), I32)
    given = {"A": np.zeros(1, np.int32), "n": 3}
    checked = program((a, n), launch(put(a, 0, 1)), checks=(HostCheck(n > 3, "n must exceed 3", HERE),))
    assert kind_of(lambda: run_reference(checked, given)) is Kind.HOST_ASSERT
    assert run_reference(checked, {**given, "n": 4})["A"].tolist() == [1]
    i = var("i")
    assert kind_of(lambda: run((a, n), parallel(i, 5, Assert(HERE, i < n, "small")), given=given)) is Kind.DEVICE_ASSERT
    assert kind_of(lambda: run((a, tensor("B", (m,))), launch(), given=given)) is Kind.UNKNOWN_ARGUMENT
    assert kind_of(lambda: run((a, o := tensor("B", (m,))), given={"A": given["A"]}, outputs=(o,))) is Kind.UNBOUND_SYMBOL
    endless = While(HERE, at(a, 0) == 0, seq())
    assert kind_of(lambda: run((a,), endless, given={"A": given["A"]}, options=ReferenceOptions(max_turns=50))) is Kind.DEVICE_ASSERT


def test_print_gives_a_line_per_iteration() -> None:
    lines: list[str] = []
    i = var("i")
    run((), parallel(i, 4, If(HERE, i != 2, Print(HERE, "i =", (i, binary(ExprOp.MUL, i, i))))), given={}, options=ReferenceOptions(printer=lines.append))
    assert lines == ["i = 0 0", "i = 1 1", "i = 3 9"]
