"""Softmax of every row (floor 9)."""

from __future__ import annotations

from typing import Any

import numpy as np

import tilewright.language as T
from tilewright.driver import resolve_target
from tilewright.jit import jit
from tilewright.target.cpu import CpuTarget


def row_tiles(target: Any, block_M: int | None, threads: int | None) -> tuple[int, int]:
    """Rows and threads of a block, for rows of some thousand elements: what the caller gave, else what suits the target."""
    suited = (4, 128) if isinstance(resolve_target(target), CpuTarget) else (1, 256)
    return block_M or suited[0], threads or suited[1]


@jit(out_idx=[-1], target_argument="target")
def softmax(N: int, dtype: Any = "float32", block_M: int | None = None, threads: int | None = None, M: int | None = None, target: Any = None) -> Any:
    """A kernel for X (M, N) that returns Y of the same shape, each row exp(x - max) / sum. Computed in float32.

    block_M, threads   rows and threads of a block; None: what suits the target.
    M                  rows; None: any number, told by the arguments of each call.
    target             as for `tilewright.compile`.
    """
    block_M, threads = row_tiles(target, block_M, threads)
    M = T.dynamic("M") if M is None else M

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
