"""T.Kernel: grids, block indices, threads, several launches, and what may not stand around or inside one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import refused, run
from tilewright.errors import Kind


def test_every_block_runs_once_with_its_own_index() -> None:
    @T.prim_func
    def main(A: T.Tensor((2, 3, 5), "int32")):
        with T.Kernel(5, 3, 2, threads=(4, 2)) as (bx, by, bz):
            A[bz, by, bx] = A[bz, by, bx] + bx + 10 * by + 100 * bz + 1000 * T.get_block_extent(0) + 10000 * T.get_thread_extent(1)

    expected = np.arange(5) + 10 * np.arange(3)[:, None] + 100 * np.arange(2)[:, None, None] + 25000
    np.testing.assert_array_equal(run(main, A=np.zeros((2, 3, 5), np.int32))["A"], expected)
    (launch,) = main.program.launches
    assert launch.threads == (4, 2, 1) and [n.value for n in launch.grid] == [5, 3, 2] and [v.name for v in launch.block_variables] == ["bx", "by", "bz"]


def test_ways_to_name_the_block() -> None:
    @T.prim_func
    def main(A: T.Tensor((4, 4), "int32")):
        with T.Kernel(4) as one:
            A[0, one] = 1
        with T.Kernel(4) as (only,):
            A[1, only] = 2
        with T.Kernel(4):
            A[2, T.get_block_binding()] = 3
        with T.Kernel(4, 1) as both:
            A[3, both[0]] = 4 + both[1]

    np.testing.assert_array_equal(run(main, A=np.zeros((4, 4), np.int32))["A"], np.arange(1, 5)[:, None] * np.ones(4, np.int32))
    assert [launch.block_variables[0].name for launch in main.program.launches] == ["one", "only", "bx", "both_0"]


def test_a_grid_of_sizes_that_a_call_knows_may_be_empty() -> None:
    n = T.dynamic("n")

    @T.prim_func
    def main(A: T.Tensor((n,), "int32"), B: T.Tensor((1,), "int32")):
        with T.Kernel(T.ceildiv(n, 4), threads=32) as bx:
            for i in T.Parallel(4):
                A[bx * 4 + i] = bx
        with T.Kernel(1):
            B[0] = n

    assert run(main, A=np.zeros(6, np.int32), B=np.zeros(1, np.int32))["A"].tolist() == [0, 0, 0, 0, 1, 1]
    assert run(main, A=np.zeros(0, np.int32), B=np.ones(1, np.int32))["B"].tolist() == [0]


def test_options_of_other_releases() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "int32")):
        with T.Kernel(2, threads=32, is_cpu=True, cluster_dims=2) as bx:
            A[bx] = 1
        with T.ClusterKernel(2, cluster_dims=(2, 1), threads=32) as bx:
            A[2 + bx] = 1

    assert [launch.cluster for launch in main.program.launches] == [(2, 1, 1), (2, 1, 1)]
    assert run(main, A=np.zeros(4, np.int32))["A"].tolist() == [1] * 4


def test_asking_for_a_thread_makes_the_code_that_of_threads() -> None:
    @T.prim_func
    def main(A: T.Tensor((64,), "int32")):
        with T.Kernel(1, threads=64):
            A[T.get_thread_binding()] = T.get_thread_binding()
        with T.Kernel(1, threads=64):
            A[0] = T.get_thread_extent()

    assert [launch.is_thread_level for launch in main.program.launches] == [True, False]
    assert run(main, A=np.zeros(64, np.int32))["A"].tolist() == [64, *range(1, 64)]


def test_without_a_launch_there_is_one_block_of_one_thread() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "int32")):
        for i in T.serial(4):
            A[i] = i * i

    assert main.program.launches[0].threads == (1, 1, 1) and run(main, A=np.zeros(4, np.int32))["A"].tolist() == [0, 1, 4, 9]


@pytest.mark.parametrize(
    ("kind", "body", "part"),
    [
        (Kind.GRID_RANK, lambda: T.Kernel(1, 1, 1, 1), "the grid has 4 dimensions"),
        (Kind.GRID_EXTENT, lambda: T.Kernel(-1), "grid dimension 0 is -1"),
        (Kind.GRID_EXTENT, lambda: T.Kernel(2.5), "grid dimension 0"),
        (Kind.THREADS, lambda: T.Kernel(1, threads=0), "threads=0 holds 0"),
        (Kind.THREADS, lambda: T.Kernel(1, threads=(1, 2, 3, 4)), "threads is (1, 2, 3, 4)"),
        (Kind.THREADS, lambda: T.ClusterKernel(1, cluster_dims="2"), "cluster_dims is"),
        (Kind.GRID_RANK, lambda: T.get_block_binding(1), "T.get_block_binding was asked for dimension 1"),
        (Kind.LAUNCH_NESTED, lambda: T.Kernel(1).__enter__(), "a launch stands inside another one"),
    ],
)
def test_mistakes(kind: Kind, body: Any, part: str) -> None:
    with refused(kind, part):

        @T.prim_func
        def main(A: T.Tensor((4,), "int32")):
            with T.Kernel(1):
                body()
