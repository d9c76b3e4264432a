"""Matrix products: C = A @ B, and with bias and activation C = activation(A @ B + bias) (floor 9)."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from enum import Enum
from typing import Any, Final

import numpy as np

import tilewright.language as T
from tilewright.driver import resolve_target
from tilewright.dtypes import as_dtype
from tilewright.jit import jit
from tilewright.target.cpu import CpuTarget
from tilewright.target.simulated import SimulatedTarget


class Activation(Enum):
    """What is applied to every element of the product."""

    NONE = "none"
    RELU = "relu"
    GELU = "gelu"  # x * Phi(x), by way of erf
    SILU = "silu"  # x * sigmoid(x)


# Blocks of a panel, in which they follow each other on a GPU: they share operands in its L2 cache.
_PANEL: Final = 8


@dataclass(frozen=True)
class Tiles:
    """Rows, columns and depth of a block's tiles, the stages of its pipeline, and its threads."""

    block_M: int
    block_N: int
    block_K: int
    stages: int = 2
    threads: int = 128

    def shared_bytes(self, itemsize: int) -> int:
        return (self.block_M + self.block_N) * self.block_K * itemsize * self.stages


def tiles_for(target: Any, M: int, N: int, dtype: Any) -> Tiles:
    """The tiles that `gemm` and `matmul` take where their caller names none."""
    resolved, itemsize = resolve_target(target), as_dtype(dtype).itemsize
    if isinstance(resolved, CpuTarget):
        return Tiles(128, 256, 64)
    if itemsize > 2:  # plain arithmetic, since tensor cores do not multiply these dtypes exactly
        return Tiles(64, 64, 16)
    if M <= 16:
        return Tiles(16, 64, 128, stages=4)
    wide = Tiles(128, 256, 64, stages=3, threads=256)  # pays where there are enough blocks to fill the GPU several times
    gpu = resolved.nvidia if isinstance(resolved, SimulatedTarget) else resolved
    return wide if M * N >= 4096 * 4096 and wide.shared_bytes(itemsize) <= gpu.shared_bytes_per_block else Tiles(128, 128, 32, stages=4)


def _chosen(given: tuple[int | None, ...], target: Any, M: int, N: int, dtype: Any) -> tuple[int, ...]:
    """What the caller gave, and for each None what suits the target."""
    return tuple(suited if own is None else own for own, suited in zip(given, astuple(tiles_for(target, M, N, dtype)), strict=True))


@jit(out_idx=[-1], target_argument="target")
def matmul(
    M: int,
    N: int,
    K: int,
    dtype: Any = "float32",
    block_M: int | None = None,
    block_N: int | None = None,
    block_K: int | None = None,
    stages: int | None = None,
    threads: int | None = None,
    transpose_B: bool = False,
    target: Any = None,
) -> Any:
    """A kernel for A (M, K) and B (K, N) that returns C = A @ B (M, N); sums are float32, whatever the dtype of the tensors.

    block_M, ..., threads   tiles; None: what suits the target.
    transpose_B             B is (N, K), as the weight of a linear layer.
    target                  as for `tilewright.compile`.
    """
    block_M, block_N, block_K, stages, threads = _chosen((block_M, block_N, block_K, stages, threads), target, M, N, dtype)

    @T.prim_func
    def main(A: T.Tensor((M, K), dtype), B: T.Tensor((N, K) if transpose_B else (K, N), dtype), C: T.Tensor((M, N), dtype)):
        with T.Kernel(T.ceildiv(N, block_N), T.ceildiv(M, block_M), threads=threads) as (bx, by):
            A_tile = T.alloc_shared((block_M, block_K), dtype)
            B_tile = T.alloc_shared((block_N, block_K) if transpose_B else (block_K, block_N), dtype)
            sums = T.alloc_fragment((block_M, block_N), "float32")

            row = by * block_M if block_M < M else 0
            T.use_swizzle(_PANEL, enable=block_M < M)
            T.clear(sums)
            for k in T.Pipelined(T.ceildiv(K, block_K), num_stages=stages):
                T.copy(A[row, k * block_K], A_tile)
                if transpose_B:
                    T.copy(B[bx * block_N, k * block_K], B_tile)
                else:
                    T.copy(B[k * block_K, bx * block_N], B_tile)
                T.gemm(A_tile, B_tile, sums, transpose_B=transpose_B)
            T.copy(sums, C[row, bx * block_N])

    return main


@jit(out_idx=[-1], target_argument="target")
def gemm(
    M: int,
    N: int,
    K: int,
    activation: Activation = Activation.NONE,
    dtype: Any = "float32",
    block_M: int | None = None,
    block_N: int | None = None,
    block_K: int | None = None,
    stages: int | None = None,
    threads: int | None = None,
    target: Any = None,
) -> Any:
    """A kernel for A (M, K), B (K, N) and bias (N,) that returns C (M, N); the rest is as for `matmul`."""
    block_M, block_N, block_K, stages, threads = _chosen((block_M, block_N, block_K, stages, threads), target, M, N, dtype)

    @T.prim_func
    def main(A: T.Tensor((M, K), dtype), B: T.Tensor((K, N), dtype), bias: T.Tensor((N,), dtype), C: T.Tensor((M, N), dtype)):
        with T.Kernel(T.ceildiv(N, block_N), T.ceildiv(M, block_M), threads=threads) as (bx, by):
            A_tile = T.alloc_shared((block_M, block_K), dtype)
            B_tile = T.alloc_shared((block_K, block_N), dtype)
            bias_tile = T.alloc_shared((block_N,), dtype)
            sums = T.alloc_fragment((block_M, block_N), "float32")

            T.use_swizzle(_PANEL, enable=block_M < M)
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
