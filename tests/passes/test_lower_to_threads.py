"""Tile programs lowered to what one thread runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tilewright.ir.buffer import Scope
from tilewright.ir.printer import print_program
from tilewright.ir.program import Program
from tilewright.ir.stmt import Barrier, WarpExchange
from tilewright.ir.verify import Level, verify
from tilewright.ir.visit import statements
from tilewright.passes.context import GpuPassContext
from tilewright.passes.expand_tile_ops import expand_tile_ops
from tilewright.passes.guard_accesses import guard_accesses
from tilewright.passes.infer_layouts import infer_layouts
from tilewright.passes.lower_to_threads import lower_to_threads
from tilewright.passes.stage_operands import stage_operands
from tilewright.target.nvidia import SM_80


def lowered(func: Any) -> tuple[Program, GpuPassContext]:
    """The program after the passes from tiles to threads; barriers are another pass's."""
    context = GpuPassContext(SM_80)
    program = func.program
    for apply in (stage_operands, expand_tile_ops, guard_accesses, infer_layouts, lower_to_threads):
        program = apply(program, context)
    verify(program, Level.THREAD, "lowering")
    return program, context


def row_maximum(rows: int) -> Any:
    """Each block takes some rows of 512 columns."""

    @T.prim_func
    def main(A: T.Tensor((1000, 512), "float16"), B: T.Tensor((1000, 512), "float16")):
        with T.Kernel(T.ceildiv(1000, rows), threads=128) as bx:
            x = T.alloc_fragment((rows, 512), "float32")
            top = T.alloc_fragment((rows,), "float32")
            T.copy(A[bx * rows, 0], x)
            T.reduce_max(x, top, dim=1)
            for i, j in T.Parallel(rows, 512):
                x[i, j] = T.exp(x[i, j] - top[i])
            T.copy(x, B[bx * rows, 0])

    return main


@pytest.mark.parametrize("rows, exchanges, barriers", [(4, 5, 0), (1, 5, 1)])
def test_rows_are_reduced_by_one_warp_where_there_are_as_many(rows: int, exchanges: int, barriers: int) -> None:
    program, context = lowered(row_maximum(rows))
    (launch,) = program.launches
    kinds = [type(s) for s in statements(launch.body)]
    assert (kinds.count(WarpExchange), kinds.count(Barrier)) == (exchanges, barriers)
    assert not context.remarks
    assert not [b for b in launch.buffers if b.scope is Scope.FRAGMENT]


def softmax_rows(rows: int, columns: int, threads: int) -> Any:
    """A tile whose rows are scaled to the sum one."""

    @T.prim_func
    def main(A: T.Tensor((rows, columns), "float32"), B: T.Tensor((rows, columns), "float32")):
        with T.Kernel(1, threads=threads):
            x, total = T.alloc_fragment((rows, columns), "float32"), T.alloc_fragment((rows,), "float32")
            T.copy(A, x)
            T.reduce_sum(x, total, dim=1)
            for i, j in T.Parallel(rows, columns):
                x[i, j] = x[i, j] / total[i]
            T.copy(x, B)

    return main


@pytest.mark.parametrize(
    ("rows", "columns", "threads", "barriers"),
    [
        (4, 229, 128, 0),  # padded columns
        (8, 1000, 128, 0),
        (7, 229, 96, 0),  # padded rows too
        (6, 64, 64, 0),  # a warp has every other row
        (5, 77, 160, 0),
        (2, 512, 128, 1),  # four rows for two would be too many
    ],
)
def test_rows_of_odd_numbers_and_lengths_stay_in_their_warps(rows: int, columns: int, threads: int, barriers: int) -> None:
    kernel = softmax_rows(rows, columns, threads)
    program, context = lowered(kernel)
    assert sum(isinstance(s, Barrier) for s in statements(program.launches[0].body)) == barriers
    assert not context.remarks
    a = np.random.default_rng(0).integers(1, 5, (rows, columns)).astype(np.float32)
    b = np.zeros_like(a)
    tilewright.compile(kernel, target="simulate")(a, b)
    np.testing.assert_array_equal(b, a / a.sum(1, keepdims=True))


def test_in_a_loop_the_totals_of_warps_are_read_before_the_next_are_stored() -> None:
    @T.prim_func
    def main(A: T.Tensor((6, 512), "float32"), B: T.Tensor((6,), "float32")):
        with T.Kernel(1, threads=128):
            x, total = T.alloc_fragment((1, 512), "float32"), T.alloc_fragment((1,), "float32")
            for k in T.serial(6):
                T.copy(A[k : k + 1, :], x)
                T.reduce_sum(x, total, dim=1)
                B[k] = total[0]

    program, _ = lowered(main)
    assert sum(isinstance(s, Barrier) for s in statements(program.launches[0].body)) == 2
    a = np.random.default_rng(0).integers(-9, 9, (6, 512)).astype(np.float32)
    b = np.zeros(6, np.float32)
    tilewright.compile(main, target="simulate")(a, b)
    np.testing.assert_array_equal(b, a.sum(1))


def test_guards_that_registers_decide_test_no_thread() -> None:
    """Of five registers along 229 columns, the last one alone may lie outside."""
    text = print_program(lowered(softmax_rows(16, 229, 64))[0])
    assert " or " in text


def test_neighbouring_lanes_read_neighbouring_vectors() -> None:
    text = print_program(lowered(row_maximum(4))[0])
    assert "vectorized(8)" in text
    assert "A[bx * 4 + warp, v + r * 256 + lane * 8]" in text


def test_a_transposed_read_of_a_fragment_goes_through_shared_memory() -> None:
    @T.prim_func
    def turned(A: T.Tensor((32, 32), "float32"), B: T.Tensor((32, 32), "float32")):
        with T.Kernel(1, threads=128):
            x = T.alloc_fragment((32, 32), "float32")
            y = T.alloc_fragment((32, 32), "float32")
            T.copy(A, x)
            for i, j in T.Parallel(32, 32):
                y[i, j] = x[j, i] + x[i, j]
            T.copy(y, B)

    _, context = lowered(turned)
    assert len([r for r in context.remarks if "goes through shared memory" in r.text]) == 1


@pytest.mark.parametrize("threads", [32, 48, 96, 128, 384, 1024])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 80), (7, 229)])
def test_any_tile_has_a_layout_on_any_number_of_threads(threads: int, shape: tuple[int, int]) -> None:
    @T.prim_func
    def doubled(A: T.Tensor(shape, "float16"), B: T.Tensor(shape, "float16"), total: T.Tensor((shape[0],), "float32")):
        with T.Kernel(1, threads=threads):
            x = T.alloc_fragment(shape, "float32")
            s = T.alloc_fragment((shape[0],), "float32")
            T.copy(A, x)
            T.reduce_sum(x, s, dim=1)
            T.copy(s, total)
            T.copy(x, B)

    lowered(doubled)


def test_registers_of_interleaved_elements_are_found() -> None:
    @T.prim_func
    def rotate(A: T.Tensor((16, 64), "float32"), B: T.Tensor((16, 64), "float32")):
        with T.Kernel(1, threads=64):
            x = T.alloc_fragment((16, 64), "float32")
            y = T.alloc_fragment((16, 32), "float32")
            T.copy(A, x)
            for i, j in T.Parallel(16, 32):
                y[i, j] = x[i, 2 * j] * x[i, 2 * j + 1]
            for i, j in T.Parallel(16, 32):
                B[i, j] = y[i, j]

    lowered(rotate)


def test_a_fragment_is_printed_by_one_thread(capfd: pytest.CaptureFixture[str]) -> None:
    @T.prim_func
    def main(A: T.Tensor((64,), "float32")):
        with T.Kernel(2, threads=32) as bx:
            x = T.alloc_fragment((32,), "float32")
            T.copy(A[bx * 32], x)
            if bx == 1:
                T.print(x, msg="x")

    tilewright.compile(main, target="simulate")(np.arange(64, dtype=np.float32))
    assert capfd.readouterr().out.splitlines() == [f"x {i} {float(32 + i)}" for i in range(32)]


def test_of_threads_that_run_the_same_iterations_one_changes_memory() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((12,), "float32"), B: T.Tensor((12,), "float32")):
        with T.Kernel(1, threads=128):
            s = T.alloc_shared((12,), "float32")
            T.copy(A, s)
            for i in T.Parallel(12):
                s[i] = s[i] + 1
            T.copy(s, B)

    a = np.arange(12, dtype=np.float32)
    found = np.zeros(12, np.float32)
    tilewright.compile(kernel, target="simulate")(a, found)
    np.testing.assert_array_equal(found, a + 1)
