"""Loops: the turns of each kind against Python's range, coordinates of persistent blocks, and options that change no result."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import refused, run
from tilewright.errors import Kind
from tilewright.ir.stmt import For, LoopKind, ParallelFor
from tilewright.ir.visit import statements

MOST = 40


def turns(loop: Callable[..., Any], *bounds: Any, indices: int = 1) -> list[Any]:
    """The indices of each turn, in order, as compiled and reference kernels number them."""

    @T.prim_func
    def main(A: T.Tensor((MOST, indices), "int32"), N: T.Tensor((1,), "int32")):
        with T.Kernel(1):
            count = T.alloc_var("int32")
            if indices == 1:
                for i in loop(*bounds):
                    A[count, 0] = i
                    count += 1
            else:
                for i, j in loop(*bounds):
                    A[count, 0] = i
                    A[count, 1] = j
                    count += 1
            N[0] = count

    found = run(main, A=np.full((MOST, indices), -99, np.int32), N=np.zeros(1, np.int32))
    rows = found["A"][: int(found["N"][0])].tolist()
    return [row[0] for row in rows] if indices == 1 else [tuple(row) for row in rows]


BOUNDS = [(5,), (0,), (2, 7), (7, 2), (1, 20, 6), (20, 1, -7), (5, 5, -1), (-3, 4, 2)]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("loop", [T.serial, T.unroll, range], ids=["serial", "unroll", "range"])
def test_counted_loops_turn_like_range(loop: Any, bounds: tuple[int, ...]) -> None:
    if loop is range:

        @T.macro
        def rebound(first, second, third):
            return range(first, second, third)

        stop = bounds if len(bounds) > 1 else (0, *bounds)
        bounds, loop = (*stop, 1)[:3], rebound
    assert turns(loop, *bounds) == list(range(*bounds))


@pytest.mark.parametrize("bounds", [(4,), (2, 9)], ids=str)
@pytest.mark.parametrize("loop", [T.vectorized, T.Pipelined], ids=["vectorized", "Pipelined"])
def test_loops_without_steps(loop: Any, bounds: tuple[int, ...]) -> None:
    if loop is T.vectorized:

        @T.prim_func
        def main(A: T.Tensor((MOST,), "int32")):
            with T.Kernel(1):
                for i in T.vectorized(*bounds):
                    A[i] = i + 1

        expected = np.zeros(MOST, np.int32)
        expected[range(*bounds)] = np.arange(*bounds) + 1
        np.testing.assert_array_equal(run(main, A=np.zeros(MOST, np.int32))["A"], expected)
    else:
        assert turns(loop, *bounds) == list(range(*bounds))


def test_a_grid_is_nested_loops() -> None:
    assert turns(T.grid, 3, 4, indices=2) == list(product(range(3), range(4)))


def test_parallel_loops_cover_their_box() -> None:
    @T.prim_func
    def main(A: T.Tensor((3, 5), "int32"), B: T.Tensor((4,), "int32")):
        with T.Kernel(1):
            for i, j in T.Parallel(3, 5, coalesced_width=2):
                A[i, j] = A[i, j] + 10 * i + j
            for i in T.parallel(1, 4):
                B[i] = B[i] + 1

    found = run(main, A=np.zeros((3, 5), np.int32), B=np.zeros(4, np.int32))
    np.testing.assert_array_equal(found["A"], 10 * np.arange(3)[:, None] + np.arange(5))
    assert found["B"].tolist() == [1, 1, 1, 0]  # three turns, counted from 0


@pytest.mark.parametrize(("rows", "columns", "wave", "group"), [(3, 5, 4, 2), (1, 7, 3, 8), (4, 4, 16, 1), (2, 9, 5, 4)])
def test_persistent_blocks_visit_every_point_once_together(rows: int, columns: int, wave: int, group: int) -> None:
    @T.prim_func
    def main(A: T.Tensor((rows, columns), "int32"), W: T.Tensor((rows, columns), "int32")):
        with T.Kernel(wave, threads=1) as bx:
            for i, j in T.Persistent([rows, columns], wave, bx, group_size=group):
                T.atomic_add(A[i, j], 1)
                W[i, j] = bx

    found = run(main, A=np.zeros((rows, columns), np.int32), W=np.zeros((rows, columns), np.int32))
    assert (found["A"] == 1).all()
    order = [(i, j) for first in range(0, columns, group) for i in range(rows) for j in range(first, min(first + group, columns))]
    assert [int(found["W"][point]) for point in order] == [number % wave for number in range(rows * columns)]


def test_kinds_and_plans_are_kept_for_the_compiler() -> None:
    @T.prim_func
    def main(A: T.Tensor((64,), "float32")):
        with T.Kernel(1):
            for k in T.Pipelined(4, num_stages=3, order=[1, 0], stage=[0, 1]):
                for i in T.unroll(2, unroll_factor=2):
                    A[k * 2 + i] = 1.0
                for i in T.vectorized(2):
                    A[k * 2 + i] = 2.0
            for i in T.Parallel(4):
                A[i] = 3.0

    loops = [s for s in statements(main.program.launches[0].body) if isinstance(s, For)]
    assert [loop.kind for loop in loops] == [LoopKind.PIPELINED, LoopKind.UNROLLED, LoopKind.VECTORIZED]
    plan = loops[0].pipeline
    assert plan is not None and (plan.num_stages, plan.order, plan.stage) == (3, (1, 0), (0, 1))
    assert sum(isinstance(s, ParallelFor) for s in statements(main.program.launches[0].body)) == 1


def test_bounds_that_the_kernel_computes() -> None:
    @T.prim_func
    def main(N: T.Tensor((3,), "int32"), A: T.Tensor((3, 8), "int32")):
        with T.Kernel(3) as row:
            for i in T.serial(1, N[row], 2):
                A[row, i] = 1
            for i in T.Parallel(N[row]):
                A[row, i] = A[row, i] + 10

    found = run(main, N=np.array([0, 3, 8], np.int32), A=np.zeros((3, 8), np.int32))["A"]
    assert found.tolist() == [[0] * 8, [10, 11, 10, 0, 0, 0, 0, 0], [10, 11] * 4]


@pytest.mark.parametrize(
    ("kind", "loop", "part"),
    [
        (Kind.LOOP_STEP, lambda: T.serial(0, 4, 0), "the step of T.serial is 0"),
        (Kind.LOOP_EXTENT, lambda: T.Parallel(-1), "extent 0 of T.Parallel is -1"),
        (Kind.LOOP_EXTENT, lambda: T.grid(), "T.grid has no extent"),
        (Kind.LOOP_EXTENT, lambda: T.serial("4"), "the end of T.serial"),
        (Kind.PIPELINE_STAGES, lambda: T.Pipelined(4, num_stages=-1), "num_stages is -1"),
        (Kind.PIPELINE_ORDER, lambda: T.Pipelined(4, order=[0, 0]), "does not put each statement in a place of its own"),
        (Kind.OPTION_VALUE, lambda: T.unroll(4, explicit=True, unroll_factor=2), "explicit=True and unroll_factor=2"),
        (Kind.LOOP_EXTENT, lambda: T.Persistent([4, 4], 0, 0), "wave_size of T.Persistent is 0"),
        (Kind.LOOP_ITERABLE, lambda: list(T.serial(4)), "T.serial was used outside a `for` statement"),
    ],
)
def test_mistakes(kind: Kind, loop: Any, part: str) -> None:
    with refused(kind, part):

        @T.prim_func
        def main(A: T.Tensor((4,), "int32")):
            with T.Kernel(1):
                for i in loop():
                    A[0] = 1
