"""Stages and orders that fit the body of a pipeline. What is refused is in tests/errors/programs/pipeline-order__*.py."""

from __future__ import annotations

import pytest

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
