"""Stages and orders that fit the body of a pipeline, and loops that can end. The texts are in tests/errors."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tilewright.errors import Kind, TileError
from tilewright.language.function import PrimFunc


def pipeline(order, stage) -> PrimFunc:
    """Two loads and a product; the last statement reads what the first two write."""

    @T.prim_func
    def kernel(A: T.Tensor((64, 64), "float16"), B: T.Tensor((64, 64), "float16"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a = T.alloc_shared((16, 16), "float16")
            b = T.alloc_shared((16, 16), "float16")
            c = T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.Pipelined(4, num_stages=2, order=order, stage=stage):
                T.copy(A[0, k * 16], a)
                T.copy(B[k * 16, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)

    return kernel


@pytest.mark.parametrize(
    ("order", "stage"),
    [
        (None, None),
        ([0, 1, 2], None),
        (None, [0, 0, 1]),
        ([0, 1, 2], [0, 0, 0]),
        ([1, 2, 0], [0, 0, 1]),
        ([1, 0, 2], [0, 0, 3]),
        ((0, 1, 2), (0, 1, 1)),
    ],
)
def test_schedules_that_write_before_they_read(order, stage) -> None:
    assert pipeline(order, stage).program.launches


@pytest.mark.parametrize(
    ("order", "stage"),
    [
        ([0, 1, 2], [1, 0, 0]),
        ([0, 1, 2], [0, 1, 0]),
        ([1, 2, 0], [0, 0, 0]),
        ([0, 1], [0, 1]),
        ([0, 1, 1], [0, 0, 1]),
        ([0, 1, 2, 3], [0, 0, 1, 1]),
        ("012", None),
        (None, [0, 0, -1]),
        (None, [0, 0, 0.5]),
        (None, [True, True, True]),
    ],
)
def test_schedules_that_do_not_fit(order, stage) -> None:
    with pytest.raises(TileError) as caught:
        pipeline(order, stage)
    assert caught.value.diagnostic.kind is Kind.PIPELINE_ORDER


def test_scalars_of_the_body_may_be_counted_or_not() -> None:
    def kernel_with(stage):
        @T.prim_func
        def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
            with T.Kernel(1):
                s = T.alloc_shared((16,), "float32")
                for k in T.Pipelined(4, stage=stage):
                    scale = X[k]
                    T.copy(X[k * 16], s)
                    for i in T.Parallel(16):
                        Y[k * 16 + i] = s[i] * scale

        return kernel

    assert kernel_with([0, 1]).program.launches
    assert kernel_with([0, 0, 1]).program.launches
    with pytest.raises(TileError):
        kernel_with([0])


def count_with(condition, body, start: int = 0) -> list[float]:
    """The first elements of Y after a loop over a variable that starts at `start`."""

    @T.prim_func
    def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
        with T.Kernel(1):
            v = T.alloc_var("int32", init=start)
            s = T.alloc_shared((8,), "float32")
            T.copy(Y, s)
            while condition(Y, s, v, n):
                body(Y, s, v)

    Y = np.arange(8, dtype=np.float32)
    tilewright.compile(kernel)(Y, 3)
    return Y.tolist()


def increase(Y, s, v) -> None:
    Y[v] = 9
    v[0] = v + 1


def test_a_loop_over_a_variable_that_its_body_changes() -> None:
    assert count_with(lambda Y, s, v, n: v < n, increase) == [9, 9, 9, 3, 4, 5, 6, 7]


def test_a_loop_over_a_tensor_or_a_shared_tile_may_end() -> None:
    def clear(Y, s, v):
        T.clear(s)
        T.copy(s, Y)

    assert count_with(lambda Y, s, v, n: s[1] > 0, clear) == [0.0] * 8
    assert count_with(lambda Y, s, v, n: Y[1] > 0, clear) == [0.0] * 8


def test_a_condition_that_needs_statements_is_computed_in_every_turn() -> None:
    def drop(Y, s, v):
        s[v] = 0
        Y[v] = -1
        v[0] = v + 1

    assert count_with(lambda Y, s, v, n: T.any_of(s), drop) == [-1.0] * 8
    assert count_with(lambda Y, s, v, n: T.any_of(s[0:4]), drop) == [-1.0] * 4 + [4, 5, 6, 7]


@pytest.mark.parametrize("condition", [lambda Y, s, v, n: n > 0, lambda Y, s, v, n: v < 3, lambda Y, s, v, n: True])
def test_a_loop_that_nothing_ends(condition) -> None:
    with pytest.raises(TileError) as caught:
        count_with(condition, lambda Y, s, v: Y.__setitem__(0, 1))
    assert caught.value.diagnostic.kind is Kind.WHILE_CONSTANT


def test_a_break_or_an_assertion_may_end_a_loop_but_not_that_of_an_inner_loop() -> None:
    def kernel_with(place: str):
        @T.prim_func
        def kernel(Y: T.Tensor((8,), "float32"), n: T.int32):
            with T.Kernel(1):
                while n > 0:
                    if place == "body":
                        if Y[0] > 0:
                            break
                    elif place == "inner":
                        for i in range(8):
                            if Y[i] > 0:
                                break
                    else:
                        T.device_assert(Y[0] == 0)
                    Y[0] = 1

        return kernel

    assert kernel_with("body").program.launches
    assert kernel_with("assert").program.launches
    with pytest.raises(TileError):
        kernel_with("inner")
