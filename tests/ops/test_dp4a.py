"""T.dp4a: dtypes, places, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind


@pytest.mark.parametrize(("left", "right"), [(np.int8, np.int8), (np.uint8, np.int8), (np.uint8, np.uint8)])
def test_bytes_of_both_signs(left: Any, right: Any) -> None:
    a_dtype, b_dtype = np.dtype(left).name, np.dtype(right).name

    @T.prim_func
    def main(A: T.Tensor((8, 16), a_dtype), B: T.Tensor((8, 16), b_dtype), C: T.Tensor((8,), "int32")):
        with T.Kernel(1, threads=1):
            a, b, total = T.alloc_local((4,), a_dtype), T.alloc_local((2, 8), b_dtype), T.alloc_local((1,), "int32")
            for i in T.serial(8):
                total[0] = 3
                for k in T.serial(2):
                    for j in T.vectorized(4):
                        a[j] = A[i, k * 8 + j]
                    for j in T.vectorized(8):
                        b[k, j] = B[i, k * 8 + j]
                    T.dp4a(a, b[k, 0:4], total)
                    T.dp4a(A[i, k * 8 + 4], b[k, 4], total[0])
                C[i] = total[0]

    info = np.iinfo(left), np.iinfo(right)
    a, b = integers((8, 16), left, info[0].min, info[0].max + 1), integers((8, 16), right, info[1].min, info[1].max + 1, seed=1)
    np.testing.assert_array_equal(run(main, A=a, B=b, C=np.zeros(8, np.int32))["C"], (a.astype(int) * b).sum(1) + 3)


def trace(use: Any) -> None:
    @T.prim_func
    def main(A: T.Tensor((8,), "int8"), F: T.Tensor((8,), "float32"), C: T.Tensor((8,), "int32")):
        with T.Kernel(1, threads=1):
            use(A, F, C, T.alloc_local((3,), "int8"))


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (Kind.GEMM_DTYPE, lambda A, F, C, short: T.dp4a(A, F, C)),
        (Kind.GEMM_DTYPE, lambda A, F, C, short: T.dp4a(A, A, F)),
        (Kind.GEMM_K_MISMATCH, lambda A, F, C, short: T.dp4a(A, short, C)),
        (Kind.GEMM_K_MISMATCH, lambda A, F, C, short: T.dp4a(A[5], A, C)),
        (Kind.OPERAND_KIND, lambda A, F, C, short: T.dp4a(1, A, C)),
    ],
)
def test_other_operands_are_refused(kind: Kind, use: Any) -> None:
    with refused(kind):
        trace(use)
