"""Matrix product with bias and activation: C = activation(A @ B + bias) (floor 9)."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, Final

import numpy as np

import tilewright.language as T
from tilewright.jit import jit


class Activation(Enum):
    """What is applied to every element of the product."""

    NONE = "none"
    RELU = "relu"
    GELU = "gelu"  # x * Phi(x), by way of erf
    SILU = "silu"  # x * sigmoid(x)


# For dtypes that tensor cores multiply; the defaults below suit CPUs.
GPU_TILES: Final = {"block_M": 128, "block_N": 128, "block_K": 32, "stages": 4, "threads": 128}


@jit(out_idx=[-1])
def gemm(
    M: int,
    N: int,
    K: int,
    activation: Activation = Activation.NONE,
    dtype: Any = "float32",
    block_M: int = 128,
    block_N: int = 256,
    block_K: int = 64,
    stages: int = 2,
    threads: int = 128,
) -> Any:
    """A kernel for A (M, K), B (K, N) and bias (N,) that returns C (M, N); sums are float32, whatever the dtype of the tensors.

    On a GPU: `gemm(M, N, K, dtype="float16", **GPU_TILES)`.
    """

    @T.prim_func
    def main(A: T.Tensor((M, K), dtype), B: T.Tensor((K, N), dtype), bias: T.Tensor((N,), dtype), C: T.Tensor((M, N), dtype)):
        with T.Kernel(T.ceildiv(N, block_N), T.ceildiv(M, block_M), threads=threads) as (bx, by):
            A_tile = T.alloc_shared((block_M, block_K), dtype)
            B_tile = T.alloc_shared((block_K, block_N), dtype)
            bias_tile = T.alloc_shared((block_N,), dtype)
            sums = T.alloc_fragment((block_M, block_N), "float32")

            T.copy(bias[bx * block_N], bias_tile)
            for i, j in T.Parallel(block_M, block_N):
                sums[i, j] = bias_tile[j]
            for k in T.Pipelined(T.ceildiv(K, block_K), num_stages=stages):
                T.copy(A[by * block_M, k * block_K], A_tile)
                T.copy(B[k * block_K, bx * block_N], B_tile)
                T.gemm(A_tile, B_tile, sums)
            for i, j in T.Parallel(block_M, block_N):
                if activation is Activation.RELU:
                    sums[i, j] = T.max(sums[i, j], 0)
                elif activation is Activation.GELU:
                    sums[i, j] = 0.5 * sums[i, j] * (1 + T.erf(sums[i, j] * 0.7071067811865476))
                elif activation is Activation.SILU:
                    sums[i, j] = sums[i, j] / (1 + T.exp(-sums[i, j]))
            T.copy(sums, C[by * block_M, bx * block_N])

    return main


def reference(A: Any, B: Any, bias: Any, activation: Activation = Activation.NONE) -> Any:
    """The same in float64."""
    product = np.asarray(A, np.float64) @ np.asarray(B, np.float64) + np.asarray(bias, np.float64)
    match activation:
        case Activation.RELU:
            return np.maximum(product, 0)
        case Activation.GELU:
            return 0.5 * product * (1 + _erf(product / np.sqrt(2)))
        case Activation.SILU:
            return product / (1 + np.exp(-product))
        case _:
            return product


_erf = np.vectorize(math.erf, otypes=[np.float64])
