"""T.fill and T.clear: scopes, regions, clipping, conversion of the value; against plain numpy and the reference."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind


@pytest.mark.parametrize(
    ("dtype", "value", "wanted"),
    [
        ("float32", 2, 2),
        ("float16", 0.1, np.float16(0.1)),
        ("bfloat16", -1.7, ml_dtypes.bfloat16(-1.7)),
        ("int8", -3, -3),
        ("int32", 2.9, 2),
        ("bool", 5, True),
        ("float8_e4m3fn", 3.3, ml_dtypes.float8_e4m3fn(3.3)),
        ("uint16", 65535, 65535),
        ("float64", -0.0, -0.0),
    ],
)
def test_the_value_is_converted(dtype: str, value: Any, wanted: Any) -> None:
    @T.prim_func
    def kernel(B: T.Tensor((3, 5), dtype), C: T.Tensor((4,), dtype)):
        with T.Kernel(1):
            held = T.alloc_fragment((3, 5), dtype)
            T.fill(held, value)
            T.copy(held, B)
            T.fill(C, value)

    numpy_type = T.dtype(dtype).numpy
    found = run(kernel, B=np.zeros((3, 5), numpy_type), C=np.zeros(4, numpy_type))
    np.testing.assert_array_equal(found["B"], np.full((3, 5), wanted, numpy_type))
    np.testing.assert_array_equal(found["C"], np.full(4, wanted, numpy_type))


def test_regions_of_tensors_are_clipped() -> None:
    @T.prim_func
    def kernel(B: T.Tensor((7, 6), "int32")):
        with T.Kernel(2, 2) as (bx, by):
            T.fill(B[bx * 6 - 1 : bx * 6 + 2, by * 4 : by * 4 + 3], bx * 10 + by + 1)

    wanted = np.full((7, 6), 9, np.int32)
    for x in range(2):
        for y in range(2):
            for i in range(max(6 * x - 1, 0), min(6 * x + 2, 7)):
                for j in range(4 * y, min(4 * y + 3, 6)):
                    wanted[i, j] = 10 * x + y + 1
    np.testing.assert_array_equal(run(kernel, B=np.full((7, 6), 9, np.int32))["B"], wanted)


def test_regions_of_tiles_with_dynamic_extents() -> None:
    @T.prim_func
    def kernel(n: T.int32, B: T.Tensor((3, 4, 8), "float32")):
        with T.Kernel(3) as bx:
            held = T.alloc_shared((4, 8), "float32")
            T.clear(held)
            T.fill(held[1:3, bx : bx + n], 1.5)
            T.clear(held[2, 0:2])
            T.copy(held, B[bx, :, :])

    for n in (0, 3, 7):
        wanted = np.zeros((3, 4, 8), np.float32)
        for x in range(3):
            wanted[x, 1:3, x : x + n] = 1.5
            wanted[x, 2, :2] = 0
        np.testing.assert_array_equal(run(kernel, n=n, B=np.full((3, 4, 8), 9, np.float32))["B"], wanted)


def test_an_element_is_assigned() -> None:
    @T.prim_func
    def kernel(B: T.Tensor((6,), "int16")):
        with T.Kernel(1):
            for i in T.Parallel(6):
                T.fill(B[i], i * i)
            T.clear(B[2])

    np.testing.assert_array_equal(run(kernel, B=np.zeros(6, np.int16))["B"], [0, 1, 0, 9, 16, 25])


def test_a_value_read_from_the_tile_itself_is_read_once() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9,), "int32"), B: T.Tensor((9,), "int32")):
        with T.Kernel(1):
            held = T.alloc_shared((9,), "int32")
            T.copy(A, held)
            T.fill(held, held[0] + 1)
            held[2:7] = held[2] * 3
            T.copy(held, B)

    a = integers((9,), np.int32)
    wanted = np.full(9, a[0] + 1)
    wanted[2:7] *= 3
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(9, np.int32))["B"], wanted)


def test_a_variable() -> None:
    @T.prim_func
    def kernel(B: T.Tensor((2,), "int32")):
        with T.Kernel(1):
            v = T.alloc_var("int32", init=4)
            B[0] = v
            T.fill(v, 7)
            B[1] = v

    np.testing.assert_array_equal(run(kernel, B=np.zeros(2, np.int32))["B"], [4, 7])


def test_symbols_of_64_bits() -> None:
    n = T.dynamic("n", "int64")

    @T.prim_func
    def kernel(B: T.Tensor((n, 3), "int32")):
        with T.Kernel(2) as bx:
            T.fill(B[bx * (n // 2) : n // 2 * (bx + 1) - bx, :], bx + 1)

    found = run(kernel, B=np.zeros((6, 3), np.int32))["B"]
    np.testing.assert_array_equal(found, np.array([1, 1, 1, 2, 2, 0], np.int32)[:, None].repeat(3, axis=1))


def test_what_cannot_be_filled() -> None:
    with refused(Kind.OPERAND_KIND, "the target of T.fill is"):

        @T.prim_func
        def kernel(B: T.Tensor((6,), "int16")):
            with T.Kernel(1):
                T.fill(3, B)
