"""Quantisation to fp8 with a scale per row and group of columns, and a product that reads it back.

Tensors of narrow types are numpy arrays with the dtypes of ml_dtypes, or torch tensors.
"""

import ml_dtypes
import numpy as np

import tilewright
import tilewright.language as T

FP8_MAX = 448.0  # the largest float8_e4m3fn


@tilewright.jit(out_idx=[1, 2])
def quantise(M, N, group=64, block_M=8):
    @T.prim_func
    def main(X: T.Tensor((M, N), "float32"), Q: T.Tensor((M, N), "float8_e4m3fn"), S: T.Tensor((M, N // group), "float32")):
        with T.Kernel(T.ceildiv(M, block_M), N // group, threads=128) as (bx, by):
            x = T.alloc_fragment((block_M, group), "float32")
            q = T.alloc_fragment((block_M, group), "float8_e4m3fn")
            scale = T.alloc_fragment((block_M,), "float32")
            T.copy(X[bx * block_M, by * group], x)
            T.reduce_absmax(x, scale, dim=1)
            for i in T.Parallel(block_M):
                scale[i] = T.max(scale[i], 1e-12) / FP8_MAX
            for i, j in T.Parallel(block_M, group):
                q[i, j] = T.clamp(x[i, j] / scale[i], -FP8_MAX, FP8_MAX)
            T.copy(q, Q[bx * block_M, by * group])
            for i in T.Parallel(block_M):
                S[bx * block_M + i, by] = scale[i]

    return main


@tilewright.jit(out_idx=[-1])
def scaled_product(M, N, K, group=64, block_M=32, block_N=32):
    """C = dequantised A @ dequantised B^T; the scales are constant over a step of the inner loop."""

    @T.prim_func
    def main(
        A: T.Tensor((M, K), "float8_e4m3fn"),
        A_scales: T.Tensor((M, K // group), "float32"),
        B: T.Tensor((N, K), "float8_e4m3fn"),
        B_scales: T.Tensor((N, K // group), "float32"),
        C: T.Tensor((M, N), "float32"),
    ):
        with T.Kernel(T.ceildiv(N, block_N), T.ceildiv(M, block_M), threads=128) as (bx, by):
            A_tile = T.alloc_shared((block_M, group), "float8_e4m3fn")
            B_tile = T.alloc_shared((block_N, group), "float8_e4m3fn")
            part = T.alloc_fragment((block_M, block_N), "float32")
            sums = T.alloc_fragment((block_M, block_N), "float32")
            T.clear(sums)
            for k in T.Pipelined(K // group, num_stages=2):
                T.copy(A[by * block_M, k * group], A_tile)
                T.copy(B[bx * block_N, k * group], B_tile)
                T.gemm(A_tile, B_tile, part, transpose_B=True, clear_accum=True)
                for i, j in T.Parallel(block_M, block_N):
                    sums[i, j] += part[i, j] * A_scales[by * block_M + i, k] * B_scales[bx * block_N + j, k]
            T.copy(sums, C[by * block_M, bx * block_N])

    return main


rng = np.random.default_rng(0)
m, n, k = 50, 45, 256
a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((n, k)).astype(np.float32)
qa, sa = quantise(m, k)(a)
qb, sb = quantise(n, k)(b)

groups = np.abs(a).reshape(m, -1, 64).max(axis=2)
np.testing.assert_array_equal(sa, groups / np.float32(448))
np.testing.assert_array_equal(qa, (a / sa.repeat(64, axis=1)).astype(ml_dtypes.float8_e4m3fn))

c = scaled_product(m, n, k)(qa, sa, qb, sb)
exact = (qa.astype(np.float64) * sa.repeat(64, axis=1)) @ (qb.astype(np.float64) * sb.repeat(64, axis=1)).T
np.testing.assert_allclose(c, exact, rtol=1e-5, atol=1e-4)
print(f"fp8 product: {np.abs(c - a @ b.T).max() / np.abs(a @ b.T).max():.1%} from the product before quantisation")
