"""Normalisation of every row: RMSNorm (arXiv:1910.07467) and LayerNorm (arXiv:1607.06450) (floor 9)."""

from __future__ import annotations

from typing import Any

import numpy as np

import tilewright.language as T
from tilewright.jit import jit
from tilewright.kernels.softmax import row_tiles


@jit(out_idx=[-1], target_argument="target")
def rms_norm(
    N: int, dtype: Any = "float32", epsilon: float = 1e-6, block_M: int | None = None, threads: int | None = None, M: int | None = None, target: Any = None
) -> Any:
    """A kernel for X (M, N) and W (N,) that returns X / sqrt(mean(X ** 2) + epsilon) * W. Computed in float32. Other arguments are those of `softmax`."""
    block_M, threads = row_tiles(target, block_M, threads)
    M = T.dynamic("M") if M is None else M

    @T.prim_func
    def main(X: T.Tensor((M, N), dtype), W: T.Tensor((N,), dtype), Y: T.Tensor((M, N), dtype)):
        with T.Kernel(T.ceildiv(M, block_M), threads=threads) as bx:
            rows = T.alloc_fragment((block_M, N), "float32")
            squares = T.alloc_fragment((block_M, N), "float32")
            scale = T.alloc_fragment((block_M,), "float32")

            T.copy(X[bx * block_M, 0], rows)
            for i, j in T.Parallel(block_M, N):
                squares[i, j] = rows[i, j] * rows[i, j]
            T.reduce_sum(squares, scale, dim=1)
            for i in T.Parallel(block_M):
                scale[i] = T.rsqrt(scale[i] / N + epsilon)
            for i, j in T.Parallel(block_M, N):
                Y[bx * block_M + i, j] = rows[i, j] * scale[i] * W[j]

    return main


def rms_norm_reference(X: Any, W: Any, epsilon: float = 1e-6) -> Any:
    """The same in float64."""
    x = np.asarray(X, np.float64)
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * np.asarray(W, np.float64)


@jit(out_idx=[-1], target_argument="target")
def layer_norm(
    N: int, dtype: Any = "float32", epsilon: float = 1e-5, block_M: int | None = None, threads: int | None = None, M: int | None = None, target: Any = None
) -> Any:
    """A kernel for X (M, N), W (N,) and B (N,) that returns (X - mean) / sqrt(variance + epsilon) * W + B. Computed in float32.

    Other arguments are those of `softmax`.
    """
    block_M, threads = row_tiles(target, block_M, threads)
    M = T.dynamic("M") if M is None else M

    @T.prim_func
    def main(X: T.Tensor((M, N), dtype), W: T.Tensor((N,), dtype), B: T.Tensor((N,), dtype), Y: T.Tensor((M, N), dtype)):
        with T.Kernel(T.ceildiv(M, block_M), threads=threads) as bx:
            rows = T.alloc_fragment((block_M, N), "float32")
            squares = T.alloc_fragment((block_M, N), "float32")
            mean = T.alloc_fragment((block_M,), "float32")
            scale = T.alloc_fragment((block_M,), "float32")

            T.copy(X[bx * block_M, 0], rows)
            T.reduce_sum(rows, mean, dim=1)
            for i in T.Parallel(block_M):
                mean[i] /= N
            # The mean is taken off before squaring: the difference of two large sums would cancel.
            for i, j in T.Parallel(block_M, N):
                rows[i, j] -= mean[i]
            for i, j in T.Parallel(block_M, N):
                squares[i, j] = rows[i, j] * rows[i, j]
            T.reduce_sum(squares, scale, dim=1)
            for i in T.Parallel(block_M):
                scale[i] = T.rsqrt(scale[i] / N + epsilon)
            for i, j in T.Parallel(block_M, N):
                Y[bx * block_M + i, j] = rows[i, j] * scale[i] * W[j] + B[j]

    return main


def layer_norm_reference(X: Any, W: Any, B: Any, epsilon: float = 1e-5) -> Any:
    """The same in float64."""
    x = np.asarray(X, np.float64)
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return centred * scale * np.asarray(W, np.float64) + np.asarray(B, np.float64)
