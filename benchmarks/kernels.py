"""Tile programs that are only measured; those that ship are in `tilewright.kernels`."""

from __future__ import annotations

import math
from typing import Any

import tilewright.language as T
from tilewright.jit import jit


@jit
def quickstart_gemm(
    M: int, N: int, K: int, dtype: Any = "float32", block_M: int = 128, block_N: int = 128, block_K: int = 32, num_stages: int = 2, transpose_B: bool = False
) -> Any:
    """C = A @ B the way a TileLang quickstart writes it for a GPU: 128 x 128 x 32 tiles, a pipelined loop, float32 sums. Takes A, B and C.

    With `transpose_B` the second operand is (N, K), as the weight of a linear layer.
    """

    @T.prim_func
    def main(A: T.Tensor((M, K), dtype), B: T.Tensor((N, K) if transpose_B else (K, N), dtype), C: T.Tensor((M, N), dtype)):
        with T.Kernel(T.ceildiv(N, block_N), T.ceildiv(M, block_M), threads=128) as (bx, by):
            A_shared = T.alloc_shared((block_M, block_K), dtype)
            B_shared = T.alloc_shared((block_N, block_K) if transpose_B else (block_K, block_N), dtype)
            C_local = T.alloc_fragment((block_M, block_N), "float32")

            T.clear(C_local)
            for k in T.Pipelined(T.ceildiv(K, block_K), num_stages=num_stages):
                T.copy(A[by * block_M, k * block_K], A_shared)
                if transpose_B:
                    T.copy(B[bx * block_N, k * block_K], B_shared)
                else:
                    T.copy(B[k * block_K, bx * block_N], B_shared)
                T.gemm(A_shared, B_shared, C_local, transpose_B=transpose_B)
            T.copy(C_local, C[by * block_M, bx * block_N])

    return main


@jit
def flash_attention_bhsd(
    batch: int, heads: int, length: int, width: int, is_causal: bool = False, dtype: Any = "float32", block_M: int = 64, block_N: int = 128
) -> Any:
    """Flash attention for Q, K, V, O of shape (batch, heads, length, width), the layout of torch's scaled_dot_product_attention. Takes Q, K, V and O."""
    scale = math.log2(math.e) / math.sqrt(width)
    shape = (batch, heads, length, width)

    @T.prim_func
    def main(Q: T.Tensor(shape, dtype), K: T.Tensor(shape, dtype), V: T.Tensor(shape, dtype), O: T.Tensor(shape, dtype)):
        with T.Kernel(T.ceildiv(length, block_M), heads, batch, threads=128) as (bx, by, bz):
            Q_shared = T.alloc_shared((block_M, width), dtype)
            K_shared = T.alloc_shared((block_N, width), dtype)
            V_shared = T.alloc_shared((block_N, width), dtype)
            scores = T.alloc_fragment((block_M, block_N), "float32")
            weights = T.alloc_fragment((block_M, block_N), dtype)
            sums = T.alloc_fragment((block_M, width), "float32")
            largest = T.alloc_fragment((block_M,), "float32")
            previous = T.alloc_fragment((block_M,), "float32")
            rescale = T.alloc_fragment((block_M,), "float32")
            row_total = T.alloc_fragment((block_M,), "float32")
            total = T.alloc_fragment((block_M,), "float32")

            T.copy(Q[bz, by, bx * block_M : (bx + 1) * block_M, :], Q_shared)
            T.fill(sums, 0)
            T.fill(total, 0)
            T.fill(largest, -T.infinity("float32"))
            steps = T.ceildiv((bx + 1) * block_M, block_N) if is_causal else T.ceildiv(length, block_N)
            for k in T.Pipelined(steps, num_stages=2):
                T.copy(K[bz, by, k * block_N : (k + 1) * block_N, :], K_shared)
                if is_causal:
                    for i, j in T.Parallel(block_M, block_N):
                        scores[i, j] = T.if_then_else(bx * block_M + i >= k * block_N + j, 0, -T.infinity("float32"))
                else:
                    T.clear(scores)
                T.gemm(Q_shared, K_shared, scores, transpose_B=True)
                T.copy(largest, previous)
                T.reduce_max(scores, largest, dim=1, clear=False)
                for i in T.Parallel(block_M):
                    rescale[i] = T.exp2(previous[i] * scale - largest[i] * scale)
                for i, j in T.Parallel(block_M, block_N):
                    scores[i, j] = T.exp2(scores[i, j] * scale - largest[i] * scale)
                T.reduce_sum(scores, row_total, dim=1)
                for i in T.Parallel(block_M):
                    total[i] = total[i] * rescale[i] + row_total[i]
                T.copy(scores, weights)
                for i, j in T.Parallel(block_M, width):
                    sums[i, j] *= rescale[i]
                T.copy(V[bz, by, k * block_N : (k + 1) * block_N, :], V_shared)
                T.gemm(weights, V_shared, sums)
            for i, j in T.Parallel(block_M, width):
                sums[i, j] /= total[i]
            T.copy(sums, O[bz, by, bx * block_M : (bx + 1) * block_M, :])

    return main
