"""Expressions as native code: signs of zeros and NaNs in every float format, lazy choices, deep sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, run
from tilewright.dtypes import SCALAR_DTYPES, DType

NARROW_FLOATS = [d for d in SCALAR_DTYPES if d.is_float and d.bits == 8]


def every_value(dtype: DType) -> np.ndarray:
    return np.arange(256, dtype=np.uint8).view(dtype.numpy)


def signs(values: np.ndarray) -> np.ndarray:
    """The values with the signs of zeros visible: NaN as 7, and 1 added to what has its sign set."""
    wide = values.astype(np.float64)
    return np.where(np.isnan(wide), 7.0, wide * 2 + np.signbit(wide))


@pytest.mark.parametrize("dtype", NARROW_FLOATS, ids=str)
def test_signs_of_every_value(dtype: DType) -> None:
    @T.prim_func
    def kernel(
        A: T.Tensor((256,), dtype),
        negated: T.Tensor((256,), dtype),
        absolute: T.Tensor((256,), dtype),
        signed: T.Tensor((256,), dtype),
        sign_of: T.Tensor((256,), "float32"),
    ):
        with T.Kernel(1):
            for i in T.Parallel(256):
                negated[i] = -A[i]
                absolute[i] = T.abs(A[i])
                signed[i] = T.copysign(A[i], T.cast(-1.0, dtype))
                sign_of[i] = T.copysign(1.0, T.cast(A[i], "float32"))

    a = every_value(dtype)
    arguments = {"A": a, **{n: np.zeros(256, dtype) for n in ("negated", "absolute", "signed")}, "sign_of": np.zeros(256, np.float32)}
    found = run(kernel, **arguments)
    expected = tilewright.run_reference(kernel.program, arguments)
    for name in ("negated", "absolute", "signed", "sign_of"):
        np.testing.assert_array_equal(signs(found[name]), signs(expected[name]), name)


@pytest.mark.parametrize("dtype", ["float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3b11fnuz"])
def test_formats_without_a_negative_zero_negate_zero_to_zero(dtype: str) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((3,), dtype), B: T.Tensor((3,), dtype)):
        with T.Kernel(1):
            for i in T.Parallel(3):
                B[i] = -A[i]

    found = run(kernel, A=np.array([0, 1, -2]).astype(T.dtype(dtype).numpy), B=np.zeros(3, T.dtype(dtype).numpy))["B"]
    assert found.astype(np.float32).tolist() == [0.0, -1.0, 2.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_absolute_value_of_zero_is_positive(dtype: str) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((8,), dtype), B: T.Tensor((8,), dtype), C: T.Tensor((8,), dtype)):
        with T.Kernel(1):
            for i in T.Parallel(8):
                B[i] = abs(A[i])
                C[i] = 1 / T.abs(A[i])

    numpy = T.dtype(dtype).numpy
    a = np.array([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, -2.0], numpy)
    found = run(kernel, A=a, B=np.zeros(8, numpy), C=np.zeros(8, numpy))
    assert not np.signbit(found["B"][:6].astype(np.float64)).any() and np.isnan(found["B"][6].astype(np.float64))
    assert found["C"][:2].astype(np.float64).tolist() == [np.inf, np.inf]


def test_what_is_not_taken_is_not_loaded() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((70,), "int32"), P: T.Tensor((70,), "int32"), B: T.Tensor((70,), "int32")):
        with T.Kernel(1):
            held = T.alloc_shared((70,), "int32")
            T.copy(A, held)
            for i in T.Parallel(70):
                B[i] = T.if_then_else(P[i] >= 0 and P[i] < 70, held[P[i]], -1)

    positions = np.arange(-35, 35, dtype=np.int32) * 4
    found = run(kernel, A=integers(70, np.int32), P=positions, B=np.zeros(70, np.int32))["B"]
    assert (found[(positions < 0) | (positions >= 70)] == -1).all()


def added(value: Any, times: int) -> Any:
    """Python's own loop: it unrolls the sum into one expression."""
    total = value
    for _ in range(times):
        total = total + value
    return total


def test_sums_deeper_than_the_stack_of_python() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((4,), "int32"), B: T.Tensor((4,), "int32")):
        with T.Kernel(1):
            for i in T.Parallel(4):
                B[i] = added(A[i] * A[i], 1500)

    assert run(kernel, A=np.arange(4, dtype=np.int32), B=np.zeros(4, np.int32))["B"].tolist() == [0, 1501, 6004, 13509]


def doubled(value: Any, times: int) -> Any:
    for _ in range(times):
        value = value + value
    return value


def test_what_is_shared_is_looked_at_once() -> None:
    """As a tree the expression has 2**40 leaves."""

    @T.prim_func
    def kernel(A: T.Tensor((4,), "int64"), B: T.Tensor((4,), "int64")):
        with T.Kernel(1):
            for i in T.Parallel(4):
                B[i] = doubled(A[i], 40)

    assert run(kernel, A=np.arange(4), B=np.zeros(4, np.int64))["B"].tolist() == [k << 40 for k in range(4)]


@pytest.mark.parametrize(("dtype", "count"), [("int8", 7), ("uint16", 15), ("int32", 31), ("uint64", 63)])
def test_shifts_up_to_the_width(dtype: str, count: int) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16,), dtype), B: T.Tensor((16,), dtype), C: T.Tensor((16,), dtype), n: T.int32):
        with T.Kernel(1):
            for i in T.Parallel(16):
                B[i] = A[i] << n
                C[i] = A[i] >> n

    a = integers(16, np.dtype(dtype), 0 if dtype[0] == "u" else -60, 60)
    for n in (0, 1, count):
        run(kernel, A=a, B=np.zeros(16, dtype), C=np.zeros(16, dtype), n=n)
