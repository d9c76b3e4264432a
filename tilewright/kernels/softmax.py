"""Softmax of every row (floor 9)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

import tilewright.language as T
from tilewright.jit import jit

# For rows of a few thousand elements; the defaults below suit CPUs.
GPU_TILES: Final = {"block_M": 1, "threads": 256}


@jit(out_idx=[-1])
def softmax(N: int, dtype: Any = "float32", block_M: int = 4, threads: int = 128) -> Any:
    """A kernel for X (any number of rows, N) that returns Y of the same shape, each row exp(x - max) / sum. Computed in float32.

    On a GPU: `softmax(N, **GPU_TILES)`.
    """
    M = T.dynamic("M")

    @T.prim_func
    def main(X: T.Tensor((M, N), dtype), Y: T.Tensor((M, N), dtype)):
        with T.Kernel(T.ceildiv(M, block_M), threads=threads) as bx:
            rows = T.alloc_fragment((block_M, N), "float32")
            largest = T.alloc_fragment((block_M,), "float32")
            total = T.alloc_fragment((block_M,), "float32")

            T.copy(X[bx * block_M, 0], rows)
            T.reduce_max(rows, largest, dim=1)
            for i, j in T.Parallel(block_M, N):
                rows[i, j] = T.exp(rows[i, j] - largest[i])
            T.reduce_sum(rows, total, dim=1)
            for i in T.Parallel(block_M):
                total[i] = 1 / total[i]
            for i, j in T.Parallel(block_M, N):
                rows[i, j] *= total[i]
            T.copy(rows, Y[bx * block_M, 0])

    return main


def reference(X: Any) -> Any:
    """The same in float64."""
    x = np.asarray(X, np.float64)
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
