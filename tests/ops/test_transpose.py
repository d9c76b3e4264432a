"""T.transpose: shapes, regions, conversion, in place; against plain numpy and the reference."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind


@pytest.mark.parametrize("shape", [(1, 7), (5, 3), (16, 16), (13, 21)])
def test_a_tile(shape: tuple[int, int]) -> None:
    m, n = shape

    @T.prim_func
    def kernel(A: T.Tensor((m, n), "float32"), B: T.Tensor((n, m), "float16")):
        with T.Kernel(1):
            held, turned = T.alloc_shared((m, n), "float32"), T.alloc_shared((n, m), "float16")
            T.copy(A, held)
            T.transpose(held, turned)
            T.copy(turned, B)

    a = integers(shape)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((n, m), np.float16))["B"], a.T.astype(np.float16))


def test_leading_axes_stay() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((2, 3, 4, 5), "int32"), B: T.Tensor((2, 3, 5, 4), "int32")):
        with T.Kernel(1):
            held, turned = T.alloc_shared((2, 3, 4, 5), "int32"), T.alloc_shared((2, 3, 5, 4), "int32")
            T.copy(A, held)
            T.transpose(held, turned)
            T.copy(turned, B)

    a = integers((2, 3, 4, 5), np.int32)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((2, 3, 5, 4), np.int32))["B"], np.swapaxes(a, 2, 3))


def test_one_matrix_of_many() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((3, 4, 5), "int32"), B: T.Tensor((5, 3, 4), "int32")):
        with T.Kernel(3) as bx:
            turned = T.alloc_shared((5, 4), "int32")
            T.transpose(A[bx, :, :], turned)
            T.copy(turned, B[:, bx, :])

    a = integers((3, 4, 5), np.int32)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((5, 3, 4), np.int32))["B"], np.moveaxis(a, 2, 0))


def test_in_place_and_between_overlapping_regions() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((6, 6), "int32"), B: T.Tensor((6, 6), "int32"), C: T.Tensor((6, 6), "int32")):
        with T.Kernel(1):
            held = T.alloc_shared((6, 6), "int32")
            T.copy(A, held)
            T.transpose(held, held)
            T.copy(held, B)
            T.transpose(held[0:3, 0:4], held[1:5, 2:5])
            T.copy(held, C)

    a = integers((6, 6), np.int32)
    second = a.T.copy()
    second[1:5, 2:5] = a.T[0:3, 0:4].T
    found = run(kernel, A=a, B=np.zeros((6, 6), np.int32), C=np.zeros((6, 6), np.int32))
    np.testing.assert_array_equal(found["B"], a.T)
    np.testing.assert_array_equal(found["C"], second)


def test_regions_of_tensors_are_clipped() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((5, 6), "int32"), B: T.Tensor((6, 5), "int32"), C: T.Tensor((2, 4, 4), "int32")):
        with T.Kernel(2) as bx:
            held = T.alloc_shared((4, 4), "int32")
            T.transpose(A[bx * 3 - 1 : bx * 3 + 3, 3:7], held)
            T.copy(held, C[bx, :, :])
            T.transpose(held, B[bx * 4 : bx * 4 + 4, bx * 4 : bx * 4 + 4])

    a = integers((5, 6), np.int32, low=1)
    padded = np.zeros((9, 9), np.int32)
    padded[1:6, :6] = a
    b = np.zeros((6, 5), np.int32)
    found = run(kernel, A=a, B=b, C=np.zeros((2, 4, 4), np.int32))
    wide = np.zeros((8, 8), np.int32)
    for x in range(2):
        piece = padded[3 * x : 3 * x + 4, 3:7]
        np.testing.assert_array_equal(found["C"][x], piece.T)
        wide[4 * x : 4 * x + 4, 4 * x : 4 * x + 4] = piece
    np.testing.assert_array_equal(found["B"], wide[:6, :5])


def test_shapes_that_do_not_fit() -> None:
    with refused(Kind.TRANSPOSE_SHAPE, "(5, 4)"):

        @T.prim_func
        def kernel(A: T.Tensor((4, 5), "int32")):
            with T.Kernel(1):
                T.transpose(A, T.alloc_shared((4, 5), "int32"))

    with refused(Kind.TRANSPOSE_SHAPE):

        @T.prim_func
        def flat(A: T.Tensor((4,), "int32")):
            with T.Kernel(1):
                T.transpose(A, T.alloc_shared((4,), "int32"))
