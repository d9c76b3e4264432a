"""Launches made of T.thread_binding loops."""

from __future__ import annotations

import numpy as np

import tilewright.language as T
from tests.execution import refused, run
from tilewright.errors import Kind


def test_loops_are_the_axes_of_one_launch() -> None:
    n = T.dynamic("n")

    @T.prim_func
    def kernel(X: T.Tensor((n, 3, 64), "int32"), Y: T.Tensor((n, 3, 64), "int32")):
        for j in T.thread_binding(3, thread="blockIdx.y"):
            for i in T.thread_binding(n, thread="blockIdx.x"):
                s = T.alloc_shared((64,), "int32")
                for y in T.thread_binding(2, thread="threadIdx.y"):
                    for x in T.thread_binding(32, thread="threadIdx.x"):
                        s[y * 32 + x] = X[i, j, y * 32 + x]
                for x in T.thread_binding(32, thread="threadIdx.x"):
                    for y in T.thread_binding(2, thread="threadIdx.y"):
                        Y[i, j, y * 32 + x] = s[63 - y * 32 - x] + 10 * i + j

    launch = kernel.program.launches[0]
    assert launch.threads == (32, 2, 1) and len(launch.grid) == 2 and launch.is_thread_level and launch.thread_variables[0].name == "x"
    x = np.random.default_rng(0).integers(-9, 9, (4, 3, 64)).astype(np.int32)
    expected = x[:, :, ::-1] + 10 * np.arange(4)[:, None, None] + np.arange(3)[:, None]
    np.testing.assert_array_equal(run(kernel, X=x, Y=np.zeros_like(x))["Y"], expected)


def test_several_launches_follow_each_other() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((8,), "int32")):
        for i in T.thread_binding(8, thread="blockIdx.x"):
            X[i] += 1
        for i in T.thread_binding(4, thread="blockIdx.x"):
            X[i] *= 2

    assert len(kernel.program.launches) == 2 and not kernel.program.launches[0].is_thread_level
    assert run(kernel, X=np.arange(8, dtype=np.int32))["X"].tolist() == [2, 4, 6, 8, 5, 6, 7, 8]


def test_a_loop_may_name_an_axis_of_the_kernel() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((64,), "int32")):
        with T.Kernel(2, threads=32) as b:
            for t in T.thread_binding(32, thread="threadIdx.x"):
                X[b * 32 + t] = t

    assert run(kernel, X=np.zeros(64, np.int32))["X"].tolist() == list(range(32)) * 2


def test_mistakes_are_told() -> None:
    def made(first: tuple[object, str], second: tuple[object, str]) -> None:
        @T.prim_func
        def kernel(X: T.Tensor((8,), "int32"), n: T.int32):
            for i in T.thread_binding(*first):
                for j in T.thread_binding(n if second[0] is None else second[0], second[1]):
                    X[i] = j

    for kind, text, first, second in (
        (Kind.OPTION_VALUE, "blockIdx.x", (8, "block.x"), (8, "threadIdx.x")),
        (Kind.THREADS, "`n`", (8, "blockIdx.x"), (None, "threadIdx.x")),
        (Kind.THREADS, "`4`", (8, "threadIdx.x"), (4, "threadIdx.x")),
        (Kind.GRID_EXTENT, "`8`", (8, "blockIdx.x"), (None, "blockIdx.x")),
    ):
        with refused(kind, text):
            made(first, second)

    with refused(Kind.LAUNCH_NESTED):

        @T.prim_func
        def nested(X: T.Tensor((8,), "int32")):
            for _ in T.serial(3):
                for i in T.thread_binding(8, "blockIdx.x"):
                    X[i] = 1
