"""Deferred reductions: init, update, finalize; the older spelling too; against plain numpy and the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind

NUMPY: dict[str, Any] = {"sum": np.add, "max": np.maximum, "min": np.minimum, "bitand": np.bitwise_and, "bitor": np.bitwise_or, "bitxor": np.bitwise_xor}


@pytest.mark.parametrize("operation", list(NUMPY))
@pytest.mark.parametrize("start", [None, 5])
def test_every_operation(operation: str, start: int | None) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((6, 11), "int32"), B: T.Tensor((6,), "int32")):
        with T.Kernel(1):
            held, total = T.alloc_reducer((6,), "int32", operation), T.alloc_fragment((6,), "int32")
            T.reducer_init(held, start)
            for i, j in T.Parallel(6, 11):
                T.reducer_update(held[i], A[i, j])
            T.finalize_reducer(held, total)
            T.copy(total, B)

    a = integers((6, 11), np.int32, low=-90, high=90)
    wanted = NUMPY[operation].reduce(a, axis=1)
    wanted = wanted if start is None else NUMPY[operation](wanted, start)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(6, np.int32))["B"], wanted)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
def test_every_iteration_counts_once_over_several_loops(dtype: str) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((3, 4, 6), dtype), B: T.Tensor((4,), dtype)):
        with T.Kernel(1):
            held, total = T.alloc_reducer(4, dtype), T.alloc_fragment((4,), dtype)
            T.reducer_init(held)
            for k in T.serial(3):
                for i, j in T.Parallel(4, 6):
                    if j < 5:
                        T.reducer_update(held[i], A[k, i, j])
            T.finalize_reducer(held, total)
            T.copy(total, B)

    a = integers((3, 4, 6), T.dtype(dtype).numpy)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(4, a.dtype))["B"], a[:, :, :5].astype(np.float64).sum((0, 2)).astype(a.dtype))


def test_one_element_for_everything() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((500,), "float32"), B: T.Tensor((1,), "float32")):
        with T.Kernel(1):
            held, total = T.alloc_reducer((1,), "float32", "max"), T.alloc_fragment((1,), "float32")
            T.reducer_init(held)
            for i in T.Parallel(500):
                T.reducer_update(held[0], A[i] * 2)
            T.finalize_reducer(held, total)
            T.copy(total, B)

    a = integers((500,), low=-400, high=300)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(1, np.float32))["B"], [2 * a.max()])


@pytest.mark.parametrize("replication", ["all", "none"])
def test_the_older_spelling(replication: str) -> None:
    """`acc[i] += ...` on a reducer, and finalize_reducer in place."""

    @T.prim_func
    def kernel(A: T.Tensor((5, 9), "float32"), B: T.Tensor((5,), "float32")):
        with T.Kernel(1):
            held = T.alloc_reducer((5,), "float32", "sum", replication=replication)
            T.clear(held)
            for k in T.serial(2):
                for i, j in T.Parallel(5, 9):
                    held[i] += A[i, j] * (k + 1)
            T.finalize_reducer(held)
            T.copy(held, B)

    a = integers((5, 9))
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(5, np.float32))["B"], 3 * a.sum(1))


@pytest.mark.parametrize("operation", ["max", "min", "bitor"])
def test_the_older_spelling_of_other_operations(operation: str) -> None:
    def combine(held: Any, i: Any, value: Any) -> None:
        if operation == "bitor":
            held[i] |= value
        elif operation == "max":
            held[i] = T.max(held[i], value)
        else:
            held[i] = T.min(value, held[i])

    @T.prim_func
    def kernel(A: T.Tensor((5, 9), "int16"), B: T.Tensor((5,), "int16")):
        with T.Kernel(1):
            held = T.alloc_reducer((5,), "int16", operation)
            for i in T.Parallel(5):
                held[i] = 3
            for i, j in T.Parallel(5, 9):
                combine(held, i, A[i, j])
            T.copy(held, B)

    a = integers((5, 9), np.int16)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(5, np.int16))["B"], NUMPY[operation](NUMPY[operation].reduce(a, axis=1), 3))


def test_a_difference_is_a_sum() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((7,), "float32"), B: T.Tensor((1,), "float16")):
        with T.Kernel(1):
            held = T.alloc_reducer((1,), "float16")
            T.reducer_init(held)
            for i in T.Parallel(7):
                held[0] -= A[i]
            T.copy(held, B)

    a = integers((7,))
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(1, np.float16))["B"], [-a.sum()])


def test_tiles_that_are_no_reducers() -> None:
    with refused(Kind.REDUCER_USE):

        @T.prim_func
        def update(A: T.Tensor((5,), "float32")):
            with T.Kernel(1):
                held = T.alloc_fragment((5,), "float32")
                for i in T.Parallel(5):
                    T.reducer_update(held[i], A[i])

    with refused(Kind.REDUCER_USE):

        @T.prim_func
        def region(A: T.Tensor((5,), "float32")):
            with T.Kernel(1):
                held = T.alloc_reducer((5,), "float32")
                T.reducer_update(held, A[0])

    with refused(Kind.REDUCE_OPERATION):

        @T.prim_func
        def operation(A: T.Tensor((5,), "float32")):
            with T.Kernel(1):
                T.alloc_reducer((5,), "float32", "product")
