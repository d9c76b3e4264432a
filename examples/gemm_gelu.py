"""A matrix product with bias and GELU in one kernel: the product never goes to memory before the activation.

A factory in the lazy style: calling it with sizes gives a kernel, and the kernel takes tensors.
"""

import math

import numpy as np

import tilewright
import tilewright.language as T


@tilewright.jit(out_idx=[-1])
def gemm_gelu(M, N, K, block_M=64, block_N=128, block_K=64, dtype="float16", accum_dtype="float32"):
    @T.prim_func
    def main(A: T.Tensor((M, K), dtype), B: T.Tensor((K, N), dtype), bias: T.Tensor((N,), "float32"), C: T.Tensor((M, N), dtype)):
        with T.Kernel(T.ceildiv(N, block_N), T.ceildiv(M, block_M), threads=128) as (bx, by):
            A_tile = T.alloc_shared((block_M, block_K), dtype)
            B_tile = T.alloc_shared((block_K, block_N), dtype)
            C_tile = T.alloc_fragment((block_M, block_N), accum_dtype)
            T.clear(C_tile)
            for k in T.Pipelined(T.ceildiv(K, block_K), num_stages=2):
                T.copy(A[by * block_M, k * block_K], A_tile)
                T.copy(B[k * block_K, bx * block_N], B_tile)
                T.gemm(A_tile, B_tile, C_tile)
            for i, j in T.Parallel(block_M, block_N):
                C_tile[i, j] += bias[bx * block_N + j]
            for i, j in T.Parallel(block_M, block_N):
                C_tile[i, j] = 0.5 * C_tile[i, j] * (1 + T.erf(C_tile[i, j] * math.sqrt(0.5)))
            T.copy(C_tile, C[by * block_M, bx * block_N])

    return main


M, N, K = 150, 200, 333
rng = np.random.default_rng(0)
a, b = rng.standard_normal((M, K)).astype(np.float16), rng.standard_normal((K, N)).astype(np.float16)
bias = rng.standard_normal(N).astype(np.float32)

kernel = gemm_gelu(M, N, K)
c = kernel(a, b, bias)

x = a.astype(np.float64) @ b.astype(np.float64) + bias
expected = 0.5 * x * (1 + np.vectorize(math.erf)(x * math.sqrt(0.5)))
np.testing.assert_allclose(c.astype(np.float64), expected, rtol=2e-3, atol=1e-3)
print(f"{kernel.prim_func.name}: {M}x{N}x{K}, largest difference {np.abs(c - expected).max():.1e}")
