"""T.Ramp, T.Broadcast, T.Shuffle, T.extract_lane and the operations on pairs, compiled, against numpy and the reference."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind


@pytest.mark.parametrize(("dtype", "element"), [("float32x2", np.float32), ("float16x2", np.float16), ("bfloat16x2", ml_dtypes.bfloat16)])
def test_pairs(dtype: str, element: Any) -> None:
    @T.prim_func
    def main(A: T.Tensor((8,), dtype), B: T.Tensor((8,), dtype), C: T.Tensor((7, 8), dtype)):
        with T.Kernel(1):
            for i in T.Parallel(8):
                C[0, i] = T.add2(A[i], B[i])
                C[1, i] = T.sub2(A[i], B[i])
                C[2, i] = T.mul2(A[i], B[i])
                C[3, i] = T.max2(A[i], B[i])
                C[4, i] = T.min2(A[i], B[i])
                C[5, i] = T.abs2(A[i])
                C[6, i] = T.fma2(A[i], B[i], A[i])

    a, b = integers((8, 2), element, seed=1), integers((8, 2), element, seed=2)
    found = run(main, A=a, B=b, C=np.zeros((7, 8, 2), element))["C"].astype(np.float32)
    x, y = a.astype(np.float32), b.astype(np.float32)
    np.testing.assert_array_equal(found, [x + y, x - y, x * y, np.maximum(x, y), np.minimum(x, y), abs(x), x * y + x])


def test_lanes_are_rearranged() -> None:
    @T.prim_func
    def main(A: T.Tensor((8,), "float32x4"), B: T.Tensor((8,), "float32x4"), C: T.Tensor((8,), "float32x2"), D: T.Tensor((8,), "float32")):
        with T.Kernel(1):
            for i in T.Parallel(8):
                B[i] = T.Shuffle([A[i]], [3, 2, 1, 0]) + T.Broadcast(T.float32(1), 4)
                C[i] = T.Shuffle([A[i], A[7 - i]], [0, 5])
                D[i] = T.extract_lane(A[i], 2) * T.Shuffle(A[i], 1)

    a = integers((8, 4))
    found = run(main, A=a, B=np.zeros_like(a), C=np.zeros((8, 2), np.float32), D=np.zeros(8, np.float32))
    np.testing.assert_array_equal(found["B"], a[:, ::-1] + 1)
    np.testing.assert_array_equal(found["C"], np.stack([a[:, 0], a[::-1, 1]], 1))
    np.testing.assert_array_equal(found["D"], a[:, 2] * a[:, 1])


def test_a_vector_may_be_rearranged_in_place() -> None:
    @T.prim_func
    def main(A: T.Tensor((8,), "int32x4")):
        with T.Kernel(1):
            for i in T.serial(8):
                A[i] = T.Shuffle([A[i]], [1, 2, 3, 0])

    a = np.arange(32, dtype=np.int32).reshape(8, 4)
    np.testing.assert_array_equal(run(main, A=a)["A"], np.roll(a, -1, axis=1))


def test_a_ramp_indexes_neighbours_and_strides() -> None:
    @T.prim_func
    def main(A: T.Tensor((4, 10), "float32"), B: T.Tensor((4, 10), "float32"), C: T.Tensor((4,), "float32x4")):
        with T.Kernel(4) as row:
            B[row, T.Ramp(0, 1, 4)] = A[row, T.Ramp(1, 2, 4)] * T.Broadcast(2.0, 4)
            B[row, T.Ramp(6, 1, 4)] = 7.0
            C[row] = A[row, T.Ramp(8, 1, 4)]  # beyond the end: zeros

    a = integers((4, 10))
    found = run(main, A=a, B=np.zeros_like(a), C=np.zeros((4, 4), np.float32))
    np.testing.assert_array_equal(found["B"][:, :4], a[:, 1:9:2] * 2)
    assert (found["B"][:, 6:] == 7).all()
    np.testing.assert_array_equal(found["C"], np.pad(a[:, 8:], ((0, 0), (0, 2))))


def test_lanes_are_chosen_one_by_one() -> None:
    @T.prim_func
    def main(A: T.Tensor((8,), "float32x4"), B: T.Tensor((8,), "float32x4")):
        with T.Kernel(1):
            for i in T.Parallel(8):
                B[i] = T.Select(A[i] > 0, A[i], 0.0)

    a = integers((8, 4))
    np.testing.assert_array_equal(run(main, A=a, B=np.zeros_like(a))["B"], np.maximum(a, 0))


def trace(statement: Any) -> None:
    @T.prim_func
    def main(A: T.Tensor((8,), "float32x4"), B: T.Tensor((8,), "float32")):
        with T.Kernel(1):
            statement(A, B)


@pytest.mark.parametrize(
    ("statement", "part"),
    [
        (lambda A, B: T.Broadcast(B[0], 3), "lanes of T.Broadcast"),
        (lambda A, B: T.Broadcast(A[0], 2), "float32x4"),
        (lambda A, B: T.Ramp(0, 1, B[0]), "lanes of T.Ramp"),
        (lambda A, B: T.Shuffle([A[0]], [4]), "the lane 4"),
        (lambda A, B: T.Shuffle([A[0]], [T.cast(B[0], "int32")]), "running kernel"),
        (lambda A, B: T.Shuffle([A[0]], []), "numbers []"),
        (lambda A, B: T.Shuffle([A[0], T.int32(1)], [0]), "int32"),
        (lambda A, B: T.Shuffle([], [0]), "no vector"),
        (lambda A, B: T.add2(A[0], A[1]), "float32x4"),
        (lambda A, B: T.fma2(T.float32x2(1, 2), T.float32x2(1, 2)), "float32x2, float32x2"),
        (lambda A, B: T.if_then_else(A[0] > 0, 1, 2), "no single truth value"),
    ],
)
def test_what_has_no_meaning_is_refused(statement: Any, part: str) -> None:
    with refused(Kind.OPERAND, part):
        trace(statement)


def test_a_vector_index_of_a_vector_buffer_is_refused() -> None:
    with refused(Kind.INDEX_TYPE, "int32x4"):
        trace(lambda A, B: A[T.Ramp(0, 1, 4)])
