"""Softmax as a TileLang program, unchanged: `tilewright run examples/softmax.py`.

Each row goes through memory twice and is never held whole: a first pass keeps a running maximum and sum, a second writes.
"""

import numpy as np
import tilelang
import tilelang.language as T

LOG2_E = 1.4426950408889634


@tilelang.jit(out_idx=[1])
def softmax(M, N, block_M=8, block_N=128, dtype="float32"):
    @T.prim_func
    def main(X: T.Tensor((M, N), dtype), Y: T.Tensor((M, N), dtype)):
        with T.Kernel(T.ceildiv(M, block_M), threads=128) as bx:
            x = T.alloc_fragment((block_M, block_N), "float32")
            top = T.alloc_fragment((block_M,), "float32")
            previous = T.alloc_fragment((block_M,), "float32")
            part = T.alloc_fragment((block_M,), "float32")
            total = T.alloc_fragment((block_M,), "float32")
            T.fill(top, -T.infinity("float32"))
            T.clear(total)
            for k in T.Pipelined(T.ceildiv(N, block_N), num_stages=2):
                for i, j in T.Parallel(block_M, block_N):
                    x[i, j] = T.if_then_else(k * block_N + j < N, X[bx * block_M + i, k * block_N + j] * LOG2_E, -T.infinity("float32"))
                T.copy(top, previous)
                T.reduce_max(x, top, dim=1, clear=False)
                for i, j in T.Parallel(block_M, block_N):
                    x[i, j] = T.exp2(x[i, j] - top[i])
                T.reduce_sum(x, part, dim=1)
                for i in T.Parallel(block_M):
                    total[i] = total[i] * T.exp2(previous[i] - top[i]) + part[i]
            for k in T.Pipelined(T.ceildiv(N, block_N), num_stages=2):
                for i, j in T.Parallel(block_M, block_N):
                    Y[bx * block_M + i, k * block_N + j] = T.exp2(X[bx * block_M + i, k * block_N + j] * LOG2_E - top[i]) / total[i]

    return main


x = np.random.default_rng(0).standard_normal((37, 1000)).astype(np.float32)
y = softmax(*x.shape)(x)
powers = np.exp(x - x.max(axis=1, keepdims=True).astype(np.float64))
np.testing.assert_allclose(y, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)
print(f"softmax of {x.shape}: every row sums to 1 within {np.abs(y.sum(axis=1) - 1).max():.1e}")
