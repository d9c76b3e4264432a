"""T.im2col: patches against plain numpy, the reference and a convolution; every size, stride, dilation and padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind


def patches(image: Any, kernel: int, stride: int, dilation: int, pad: int) -> Any:
    """(N * OH * OW, kernel * kernel * C)."""
    n, h, w, c = image.shape
    out = [(size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for size in (h, w)]
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    made = np.zeros((n, *out, kernel, kernel, c), image.dtype)
    for i in range(kernel):
        for j in range(kernel):
            y, x = i * dilation, j * dilation
            made[:, :, :, i, j] = padded[:, y : y + out[0] * stride : stride, x : x + out[1] * stride : stride][:, : out[0], : out[1]]
    return made.reshape(n * out[0] * out[1], -1)


@pytest.mark.parametrize(("kernel", "stride", "dilation", "pad"), [(1, 1, 1, 0), (3, 1, 1, 1), (3, 2, 1, 0), (2, 1, 3, 2), (5, 3, 1, 2)])
@pytest.mark.parametrize(("rows", "columns"), [(8, 4), (13, 7)])
def test_every_tile(kernel: int, stride: int, dilation: int, pad: int, rows: int, columns: int) -> None:
    image = integers((2, 9, 7, 3))
    want = patches(image, kernel, stride, dilation, pad)
    across, down = -(-want.shape[0] // rows), -(-want.shape[1] // columns)

    @T.prim_func
    def main(A: T.Tensor((2, 9, 7, 3), "float32"), B: T.Tensor((across * rows, down * columns), "float16")):
        with T.Kernel(down, across, threads=32) as (bx, by):
            tile = T.alloc_shared((rows, columns), "float16")
            T.im2col(A, tile, by, bx, kernel, stride, dilation, pad)
            T.copy(tile, B[by * rows, bx * columns])

    found = run(main, A=image, B=np.ones((across * rows, down * columns), np.float16))["B"]
    padded = np.pad(want, ((0, across * rows - want.shape[0]), (0, down * columns - want.shape[1])))
    np.testing.assert_array_equal(found, padded)


@pytest.mark.parametrize("target", ["cpu", "simulate"])
@pytest.mark.parametrize("shape", [(1, 1, 5, 2), (1, 5, 1, 2), (1, 1, 1, 2), (1, 5, 5, 0)])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_filter_larger_than_the_image_is_nowhere(shape: tuple[int, ...], is_known: bool, target: str) -> None:
    declared = shape if is_known else (1, *T.dynamic("h, w, c"))

    @T.prim_func
    def main(A: T.Tensor(declared, "float32"), B: T.Tensor((4, 6), "float32")):
        with T.Kernel(1, threads=32):
            tile = T.alloc_shared((4, 6), "float32")
            T.im2col(A, tile, 0, 0, 3, 1, 1, 0)
            T.copy(tile, B)

    found = np.ones((4, 6), np.float32)
    tilewright.compile(main, target=target)(integers(shape), found)
    np.testing.assert_array_equal(found, 0)


def test_a_convolution_of_unknown_size() -> None:
    kernel, c, f, rows, depth = 3, 8, 16, 16, 8
    n, h, w = T.dynamic("n, h, w")

    @T.prim_func
    def main(A: T.Tensor((n, h, w, c), "float32"), W: T.Tensor((kernel, kernel, c, f), "float32"), Y: T.Tensor((n, h, w, f), "float32")):
        with T.Kernel(T.ceildiv(n * h * w, rows), threads=128) as by:
            left, right = T.alloc_shared((rows, depth), "float32"), T.alloc_shared((depth, f), "float32")
            sums = T.alloc_fragment((rows, f), "float32")
            flat = T.Tensor((kernel * kernel * c, f), "float32", W.data)
            out = T.Tensor((n * h * w, f), "float32", Y.data)
            T.clear(sums)
            for k in T.Pipelined(T.ceildiv(kernel * kernel * c, depth), num_stages=2):
                T.c2d_im2col(A, left, by, k, kernel, 1, 1, 1)
                T.copy(flat[k * depth, 0], right)
                T.gemm(left, right, sums)
            T.copy(sums, out[by * rows, 0])

    a, weights = integers((2, 5, 6, c)), integers((kernel, kernel, c, f), seed=1)
    found = run(main, A=a, W=weights, Y=np.zeros((2, 5, 6, f), np.float32))["Y"]
    np.testing.assert_array_equal(found, (patches(a, kernel, 1, 1, 1) @ weights.reshape(-1, f)).reshape(found.shape))


def trace(use: Any) -> None:
    @T.prim_func
    def main(A: T.Tensor((2, 9, 7, 3), "float32"), B: T.Tensor((9, 7), "float32")):
        with T.Kernel(1):
            use(A, B, T.alloc_shared((8, 4), "float32"), T.alloc_shared((8,), "float32"))


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (Kind.COPY_SHAPE, lambda A, B, tile, row: T.im2col(B, tile, 0, 0, 3, 1, 1, 1)),
        (Kind.COPY_SHAPE, lambda A, B, tile, row: T.im2col(A[0:1, :, :, :], tile, 0, 0, 3, 1, 1, 1)),
        (Kind.COPY_SHAPE, lambda A, B, tile, row: T.im2col(A, row, 0, 0, 3, 1, 1, 1)),
        (Kind.OPTION_VALUE, lambda A, B, tile, row: T.im2col(A, tile, 0, 0, 0, 1, 1, 1)),
        (Kind.OPTION_VALUE, lambda A, B, tile, row: T.im2col(A, tile, 0, 0, 3, 0, 1, 1)),
        (Kind.OPTION_VALUE, lambda A, B, tile, row: T.im2col(A, tile, 0, 0, 3, 1, 1.5, 1)),
        (Kind.OPTION_VALUE, lambda A, B, tile, row: T.im2col(A, tile, 0, 0, 3, 1, 1, -1)),
    ],
)
def test_what_is_no_filter_is_refused(kind: Kind, use: Any) -> None:
    with refused(kind):
        trace(use)
