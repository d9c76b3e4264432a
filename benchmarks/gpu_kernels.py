"""Tile programs that the GPU benchmark measures beside those that ship: plain TileLang, no word of the architecture."""

from __future__ import annotations

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
