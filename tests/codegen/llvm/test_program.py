"""The native ABI: slots, launches, scratch memory, and text that is the same in every run."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.codegen.llvm.lowered import SPAN, at, check, native, parallel, program, seq, serial, store, tensor, tile
from tilewright.codegen.llvm.program import PARALLEL_FOR_SYMBOL, emit_program
from tilewright.dtypes import as_dtype, bool_, float16, float32, float64, int8, int32, int64, uint8, uint64
from tilewright.errors import CompilerBug, TileNotImplementedError
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, as_expr, cast, const, var
from tilewright.ir.program import Launch, Parameter, ParameterKind, Program
from tilewright.ir.stmt import Stmt
from tilewright.ir.tileop import Storage, TilePlan
from tilewright.runtime.llvm_jit import compile_object
from tilewright.runtime.object_symbols import undefined_symbols
from tilewright.target.cpu import PRESETS, host_target


def launch(body: Stmt, *grid: int | Expr) -> Launch:
    blocks = tuple(var("b" + "xyz"[n]) for n in range(len(grid)))
    return Launch(tuple(as_expr(n) for n in grid), blocks, (1, 1, 1), (var("tx"), var("ty"), var("tz")), (), body, SPAN)


@pytest.mark.parametrize(
    "dtype, value",
    [
        (int8, -3),
        (int32, -70000),
        (int64, -(1 << 40)),
        (uint8, 200),
        (uint64, (1 << 63) + 5),
        (float16, 1.5),
        (float32, -2.75),
        (float64, 1e-200),
        (bool_, True),
    ],
)
def test_scalars_arrive_with_their_value(dtype, value) -> None:
    x, c = var("x", dtype), tensor("c", dtype, 40)
    check(program([c, x], lambda bx: parallel([40], lambda i: store(c, [i], x))), {"c": np.zeros(40, dtype.numpy)}, scalars={"x": value})


@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 3, 4), (1, 1, 7)])
def test_blocks_are_numbered_x_first(grid: tuple[int, ...]) -> None:
    c = tensor("c", int32, *grid)
    check(program([c], lambda *b: store(c, list(b), sum((x * 10**n for n, x in enumerate(b)), const(0))), grid), {"c": np.zeros(grid, np.int32)})


def test_grids_may_be_symbolic_and_empty() -> None:
    n = var("n")
    a = tensor("a", int32, n)
    for extent in (0, 1, 9):
        check(program([a], lambda bx: store(a, [bx], at(a, bx) + 1), [n]), {"a": np.arange(extent, dtype=np.int32)}, symbols={"n": extent})


def test_launches_run_one_after_the_other() -> None:
    a, w = tensor("a", int32, 50), tensor("w", int32, 50)
    first = launch(parallel([50], lambda i: store(w, [i], at(a, i) * 2)), 1)
    second = launch(parallel([50], lambda i: store(a, [i], at(w, 49 - i))), 1)
    made = Program("two_steps", (Parameter("a", ParameterKind.TENSOR, SPAN, buffer=a),), (first, second), SPAN, workspaces=(w,))
    check(made, {"a": np.arange(50, dtype=np.int32), "w": np.zeros(50, np.int32)})


def test_a_pointer_parameter_becomes_a_tensor() -> None:
    address = var("address", uint64)
    a = Buffer("a", float32, (20,), Scope.GLOBAL, SPAN, pointer=address)
    table = tensor("table", int64, 2)
    b = Buffer("b", float32, (20,), Scope.GLOBAL, SPAN, pointer=cast(at(table, 1), uint64))
    made = program([table], lambda bx: parallel([20], lambda i: store(b, [i], at(a, i) + 1.0)))
    made = dataclasses.replace(made, parameters=(*made.parameters, Parameter("p", ParameterKind.POINTER, SPAN, variable=address)))
    source, target = np.arange(20, dtype=np.float32), np.zeros(20, np.float32)
    native(made)({"table": np.array([0, target.ctypes.data], np.int64)}, scalars={"p": source.ctypes.data})
    np.testing.assert_array_equal(target, source + 1)


def test_views_share_the_memory_of_their_buffer() -> None:
    a, t = tensor("a", int32, 6, 8), tile("t", int32, 6, 8)
    flat = Buffer("flat", int32, (48,), Scope.SHARED, SPAN, source=t)
    body = seq(
        parallel([6, 8], lambda i, j: store(t, [i, j], at(a, i, j))),
        serial(47, lambda s: store(flat, [s + 1], at(flat, s + 1) + at(flat, s))),
        parallel([6, 8], lambda i, j: store(a, [i, j], at(t, i, j))),
    )
    check(program([a], lambda bx: body), {"a": np.arange(48, dtype=np.int32).reshape(6, 8)})


def test_scratch_holds_the_tiles_that_are_used() -> None:
    a = tensor("a", float32, 10)
    t, u, unused, small = tile("t", float32, 10), tile("u", float16, 33, 5), tile("unused", float32, 1000), tile("small", float32, 4, scope=Scope.LOCAL)
    body = seq(parallel([10], lambda i: store(t, [i], at(a, i))), store(u, [32, 4], 1.0), store(small, [0], at(t, 0)), store(a, [0], at(small, 0)))
    plans = {u: TilePlan(float32, Storage.ROW_MAJOR, 7), unused: TilePlan(float32, Storage.ROW_MAJOR, 1000)}
    assert emit_program(program([a], lambda bx: body), plans, host_target()).scratch_bytes == (64 + (33 * 7 * 4 + 63) // 64 * 64,)


def test_an_address_beyond_32_bits() -> None:
    stride = 1 << 20
    a = tensor("a", int8, 3000, 4, strides=(stride, 1))
    made = program([a], lambda bx: store(a, [bx, 1], 1), [2])
    text = emit_program(made, {}, host_target()).text
    assert "trunc" not in text and "mul i64 %v" in text


def large_program() -> Program:
    n = var("n")
    a, c = tensor("a", float16, n, 96), tensor("c", float32, n, 96)
    t = tile("t", float16, 32, 96)
    return program(
        [a, c],
        lambda bx: seq(
            parallel([32, 96], lambda i, j: store(t, [i, j], at(a, bx * 32 + i, j))),
            parallel([32, 96], lambda i, j: store(c, [bx * 32 + i, j], cast(at(t, i, j), float32) * 2.0)),
        ),
        [n // 32],
        "large-program",
    )


def test_text_is_the_same_in_every_run() -> None:
    code = "from tests.codegen.llvm.test_program import *\nprint(hash('x'), emit_program(large_program(), {}, host_target()).text)"
    texts = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.partition(" ")[2] for _ in range(2)}
    assert texts == {emit_program(large_program(), {}, host_target()).text + "\n"}


def test_names_fit_llvm() -> None:
    made = emit_program(large_program(), {}, host_target())
    assert made.entry_name == "large_program"
    assert "define internal void @large_program.task0(i64 %begin, i64 %end, ptr %slots, ptr %scratch)" in made.text


@pytest.mark.parametrize("target", list(PRESETS.values()), ids=lambda t: t.name)
def test_nothing_but_the_pool_is_undefined(target) -> None:
    made = emit_program(large_program(), {}, target)
    declared = re.findall(r"^declare .* @([\w.]+)\(", made.text, re.MULTILINE)
    assert [name for name in declared if not name.startswith("llvm.")] == [PARALLEL_FOR_SYMBOL]
    symbols = undefined_symbols(compile_object(made.text, target))
    assert symbols is not None and symbols - {"_GLOBAL_OFFSET_TABLE_"} == {PARALLEL_FOR_SYMBOL}


def test_dtypes_of_several_lanes_are_refused() -> None:
    pairs, single = tensor("pairs", as_dtype("float16x2"), 8), tensor("single", float16, 8)
    for body in (store(pairs, [0], at(pairs, 1)), store(pairs, [0], cast(at(single, 1), as_dtype("float16x2")))):
        with pytest.raises(TileNotImplementedError, match="float16x2"):
            emit_program(program([pairs, single], lambda bx, body=body: body), {}, host_target())


def test_a_global_buffer_of_nobody_is_a_fault_of_ours() -> None:
    with pytest.raises(CompilerBug, match="stranger is no parameter"):
        emit_program(program([], lambda bx: store(tensor("stranger", float32, 4), [0], 1.0)), {}, host_target())
