"""A product with a long inner dimension and few results, cut along that dimension: one function, two launches, atomics.

Blocks that share a tile of the result add their parts with T.atomic_add; a second launch scales what they made.
"""

import numpy as np

import tilewright
import tilewright.language as T


@tilewright.jit
def split_k(A, B, alpha: T.float32, block_M: int = 32, block_N: int = 64, block_K: int = 64, splits: int = 8):
    M, N, K = T.const("M, N, K")
    A: T.Tensor((M, K), "float32")
    B: T.Tensor((K, N), "float32")
    C = T.empty((M, N), "float32")
    steps = T.ceildiv(T.ceildiv(K, block_K), splits)
    with T.Kernel(T.ceildiv(N, block_N), T.ceildiv(M, block_M), threads=128) as (bx, by):
        zeros = T.alloc_fragment((block_M, block_N), "float32")
        T.clear(zeros)
        T.copy(zeros, C[by * block_M, bx * block_N])
    with T.Kernel(T.ceildiv(N, block_N), T.ceildiv(M, block_M), splits, threads=128) as (bx, by, bz):
        A_tile = T.alloc_shared((block_M, block_K), "float32")
        B_tile = T.alloc_shared((block_K, block_N), "float32")
        sums = T.alloc_fragment((block_M, block_N), "float32")
        T.clear(sums)
        for k in T.Pipelined(steps, num_stages=2):
            T.copy(A[by * block_M, (bz * steps + k) * block_K], A_tile)
            T.copy(B[(bz * steps + k) * block_K, bx * block_N], B_tile)
            T.gemm(A_tile, B_tile, sums)
        T.atomic_add(C[by * block_M, bx * block_N], sums)
    with T.Kernel(T.ceildiv(N, block_N), T.ceildiv(M, block_M), threads=128) as (bx, by):
        for i, j in T.Parallel(block_M, block_N):
            C[by * block_M + i, bx * block_N + j] *= alpha
    return C


# Small integers: sums are exact in any order, so the result must be too.
rng = np.random.default_rng(0)
a, b = rng.integers(-3, 4, (40, 5000)).astype(np.float32), rng.integers(-3, 4, (5000, 70)).astype(np.float32)
np.testing.assert_array_equal(split_k(a, b, 0.5), 0.5 * (a.astype(np.float64) @ b))
print("split-k: exact")
