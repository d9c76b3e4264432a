"""Tile programs that the GPU benchmark measures: plain TileLang, no word of the architecture. Each takes its output as the last argument."""

from __future__ import annotations

import math
from typing import Any

import tilewright.language as T


def add(rows: int, columns: int, dtype: str, block: int = 4096) -> Any:
    total = rows * columns

    @T.prim_func
    def main(A: T.Tensor((total,), dtype), B: T.Tensor((total,), dtype), C: T.Tensor((total,), dtype)):
        with T.Kernel(T.ceildiv(total, block), threads=256) as bx:
            for i in T.Parallel(block):
                C[bx * block + i] = A[bx * block + i] + B[bx * block + i]

    return main


def cast(rows: int, columns: int, dtype: str, target: str, block: int = 4096) -> Any:
    total = rows * columns

    @T.prim_func
    def main(A: T.Tensor((total,), dtype), B: T.Tensor((total,), target)):
        with T.Kernel(T.ceildiv(total, block), threads=256) as bx:
            for i in T.Parallel(block):
                B[bx * block + i] = A[bx * block + i]

    return main


def transpose(rows: int, columns: int, dtype: str, block: int = 64) -> Any:
    @T.prim_func
    def main(A: T.Tensor((rows, columns), dtype), B: T.Tensor((columns, rows), dtype)):
        with T.Kernel(T.ceildiv(columns, block), T.ceildiv(rows, block), threads=256) as (bx, by):
            tile = T.alloc_shared((block, block + 2), dtype)
            T.copy(A[by * block : (by + 1) * block, bx * block : (bx + 1) * block], tile[:, 0:block])
            for i, j in T.Parallel(block, block):
                B[bx * block + i, by * block + j] = tile[j, i]

    return main


def softmax(rows: int, columns: int, dtype: str, threads: int = 256) -> Any:
    @T.prim_func
    def main(A: T.Tensor((rows, columns), dtype), B: T.Tensor((rows, columns), dtype)):
        with T.Kernel(rows, threads=threads) as bx:
            x = T.alloc_fragment((1, columns), "float32")
            top = T.alloc_fragment((1,), "float32")
            total = T.alloc_fragment((1,), "float32")
            T.copy(A[bx, 0], x)
            T.reduce_max(x, top, dim=1)
            for i, j in T.Parallel(1, columns):
                x[i, j] = T.exp2((x[i, j] - top[i]) * math.log2(math.e))
            T.reduce_sum(x, total, dim=1)
            for i, j in T.Parallel(1, columns):
                x[i, j] = x[i, j] / total[i]
            T.copy(x, B[bx, 0])

    return main


def rms_norm(rows: int, columns: int, dtype: str, threads: int = 256) -> Any:
    @T.prim_func
    def main(A: T.Tensor((rows, columns), dtype), W: T.Tensor((columns,), dtype), B: T.Tensor((rows, columns), dtype)):
        with T.Kernel(rows, threads=threads) as bx:
            x = T.alloc_fragment((1, columns), "float32")
            squares = T.alloc_fragment((1, columns), "float32")
            total = T.alloc_fragment((1,), "float32")
            T.copy(A[bx, 0], x)
            for i, j in T.Parallel(1, columns):
                squares[i, j] = x[i, j] * x[i, j]
            T.reduce_sum(squares, total, dim=1)
            for i, j in T.Parallel(1, columns):
                B[bx + i, j] = x[i, j] * T.rsqrt(total[i] / columns + 1e-6) * W[j]

    return main


def layer_norm(rows: int, columns: int, dtype: str, threads: int = 256) -> Any:
    @T.prim_func
    def main(A: T.Tensor((rows, columns), dtype), W: T.Tensor((columns,), dtype), bias: T.Tensor((columns,), dtype), B: T.Tensor((rows, columns), dtype)):
        with T.Kernel(rows, threads=threads) as bx:
            x = T.alloc_fragment((1, columns), "float32")
            squares = T.alloc_fragment((1, columns), "float32")
            total = T.alloc_fragment((1,), "float32")
            spread = T.alloc_fragment((1,), "float32")
            T.copy(A[bx, 0], x)
            T.reduce_sum(x, total, dim=1)
            for i, j in T.Parallel(1, columns):
                squares[i, j] = (x[i, j] - total[i] / columns) * (x[i, j] - total[i] / columns)
            T.reduce_sum(squares, spread, dim=1)
            for i, j in T.Parallel(1, columns):
                B[bx + i, j] = (x[i, j] - total[i] / columns) * T.rsqrt(spread[i] / columns + 1e-5) * W[j] + bias[j]

    return main


def gemm(m: int, n: int, k: int, dtype: str, block_m: int = 128, block_n: int = 128, block_k: int = 32, stages: int = 4, threads: int = 128) -> Any:
    @T.prim_func
    def main(A: T.Tensor((m, k), dtype), B: T.Tensor((k, n), dtype), C: T.Tensor((m, n), dtype)):
        with T.Kernel(T.ceildiv(n, block_n), T.ceildiv(m, block_m), threads=threads) as (bx, by):
            a = T.alloc_shared((block_m, block_k), dtype)
            b = T.alloc_shared((block_k, block_n), dtype)
            c = T.alloc_fragment((block_m, block_n), "float32")
            T.use_swizzle(8)
            T.clear(c)
            for step in T.Pipelined(T.ceildiv(k, block_k), num_stages=stages):
                T.copy(A[by * block_m, step * block_k], a)
                T.copy(B[step * block_k, bx * block_n], b)
                T.gemm(a, b, c)
            T.copy(c, C[by * block_m, bx * block_n])

    return main


def gemm_few_rows(m: int, n: int, k: int, dtype: str, block_n: int = 64, block_k: int = 128, threads: int = 128) -> Any:
    """A (m, k) times the transpose of B (n, k), for m up to 16: what a linear layer does when it decodes."""

    @T.prim_func
    def main(A: T.Tensor((m, k), dtype), B: T.Tensor((n, k), dtype), C: T.Tensor((m, n), dtype)):
        with T.Kernel(T.ceildiv(n, block_n), threads=threads) as bx:
            a = T.alloc_shared((16, block_k), dtype)
            b = T.alloc_shared((block_n, block_k), dtype)
            c = T.alloc_fragment((16, block_n), "float32")
            T.clear(c)
            for step in T.Pipelined(T.ceildiv(k, block_k), num_stages=4):
                T.copy(A[0:16, step * block_k : (step + 1) * block_k], a)
                T.copy(B[bx * block_n, step * block_k], b)
                T.gemm(a, b, c, transpose_B=True)
            T.copy(c, C[0:16, bx * block_n : (bx + 1) * block_n])

    return main


def attention(batch: int, heads: int, length: int, width: int, is_causal: bool, dtype: str, block_m: int = 128, block_n: int = 64, threads: int = 128) -> Any:
    """Flash attention for Q, K, V, O of shape (batch, heads, length, width)."""
    scale = math.log2(math.e) / math.sqrt(width)
    shape = (batch, heads, length, width)

    @T.prim_func
    def main(Q: T.Tensor(shape, dtype), K: T.Tensor(shape, dtype), V: T.Tensor(shape, dtype), O: T.Tensor(shape, dtype)):
        with T.Kernel(T.ceildiv(length, block_m), heads, batch, threads=threads) as (block, by, bz):
            bx = T.ceildiv(length, block_m) - 1 - block if is_causal else block  # the last rows see most keys: longest first
            q = T.alloc_shared((block_m, width), dtype)
            k_tile = T.alloc_shared((block_n, width), dtype)
            v_tile = T.alloc_shared((block_n, width), dtype)
            scores = T.alloc_fragment((block_m, block_n), "float32")
            weights = T.alloc_fragment((block_m, block_n), dtype)
            sums = T.alloc_fragment((block_m, width), "float32")
            largest = T.alloc_fragment((block_m,), "float32")
            previous = T.alloc_fragment((block_m,), "float32")
            rescale = T.alloc_fragment((block_m,), "float32")
            row_total = T.alloc_fragment((block_m,), "float32")
            total = T.alloc_fragment((block_m,), "float32")
            T.copy(Q[bz, by, bx * block_m : (bx + 1) * block_m, :], q)
            T.fill(sums, 0)
            T.fill(total, 0)
            T.fill(largest, -T.infinity("float32"))
            steps = T.ceildiv((bx + 1) * block_m, block_n) if is_causal else T.ceildiv(length, block_n)
            for step in T.Pipelined(steps, num_stages=2):
                T.copy(K[bz, by, step * block_n : (step + 1) * block_n, :], k_tile)
                if is_causal:
                    if (step + 1) * block_n > bx * block_m:  # only the last tiles hold keys that some query must not see
                        for i, j in T.Parallel(block_m, block_n):
                            scores[i, j] = T.if_then_else(bx * block_m + i >= step * block_n + j, 0, -T.infinity("float32"))
                    else:
                        T.clear(scores)
                else:
                    T.clear(scores)
                T.gemm(q, k_tile, scores, transpose_B=True, policy=T.GemmWarpPolicy.FullRow)
                T.copy(largest, previous)
                T.reduce_max(scores, largest, dim=1, clear=False)
                for i in T.Parallel(block_m):
                    rescale[i] = T.exp2(previous[i] * scale - largest[i] * scale)
                for i, j in T.Parallel(block_m, block_n):
                    scores[i, j] = T.exp2(scores[i, j] * scale - largest[i] * scale)
                T.reduce_sum(scores, row_total, dim=1)
                for i in T.Parallel(block_m):
                    total[i] = total[i] * rescale[i] + row_total[i]
                T.copy(scores, weights)
                for i, j in T.Parallel(block_m, width):
                    sums[i, j] *= rescale[i]
                T.copy(V[bz, by, step * block_n : (step + 1) * block_n, :], v_tile)
                T.gemm(weights, v_tile, sums, policy=T.GemmWarpPolicy.FullRow)
            for i, j in T.Parallel(block_m, width):
                sums[i, j] /= total[i]
            T.copy(sums, O[bz, by, bx * block_m : (bx + 1) * block_m, :])

    return main
