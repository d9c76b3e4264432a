"""Programs that several tests launch."""

from __future__ import annotations

import tilewright
import tilewright.language as T

n = T.dynamic("n")


@T.prim_func
def scale(A: T.Tensor((n, 64), "float32"), factor: T.float32, B: T.Tensor((n, 64), "float32")):
    with T.Kernel(T.ceildiv(n, 32), threads=128) as bx:
        for i, j in T.Parallel(32, 64):
            B[bx * 32 + i, j] = A[bx * 32 + i, j] * factor


@T.prim_func
def staged(A: T.Tensor((n,), "float32"), B: T.Tensor((n,), "float32")):
    W = T.alloc_global((n,), "float32")
    with T.Kernel(T.ceildiv(n, 128), threads=128) as bx:
        for i in T.Parallel(128):
            W[bx * 128 + i] = A[bx * 128 + i] + 1
    with T.Kernel(T.ceildiv(n, 128), threads=128) as bx:
        for i in T.Parallel(128):
            B[bx * 128 + i] = W[n - 1 - (bx * 128 + i)] * 2


@T.prim_func
def checked(A: T.Tensor((n,), "float32")):
    with T.Kernel(T.ceildiv(n, 32), threads=32) as bx:
        for i in T.Parallel(32):
            T.device_assert(A[bx * 32 + i] >= 0, "no negative numbers")


@tilewright.jit
def twice(A):
    M = T.const("M")
    A: T.Tensor((M,), "float32")
    B = T.empty((M,), "float32")
    with T.Kernel(T.ceildiv(M, 128), threads=128) as bx:
        for i in T.Parallel(128):
            B[bx * 128 + i] = A[bx * 128 + i] * 2
    return B
