"""Causal flash attention with grouped heads, timed: `tilewright run examples/flash_attention.py`.

Several query heads share one head of keys and values. The matrix of scores exists only as a tile.
"""

import math

import numpy as np
import tilelang
import tilelang.language as T
from tilelang.profiler import do_bench


@tilelang.jit(out_idx=[3])
def attention(batch, length, heads, groups, width, block_M=64, block_N=64, dtype="float16"):
    scale = math.log2(math.e) / math.sqrt(width)
    shared_by = heads // groups

    @T.prim_func
    def main(
        Q: T.Tensor((batch, length, heads, width), dtype),
        K: T.Tensor((batch, length, groups, width), dtype),
        V: T.Tensor((batch, length, groups, width), dtype),
        O: T.Tensor((batch, length, heads, width), dtype),
    ):
        with T.Kernel(T.ceildiv(length, block_M), heads, batch, threads=128) as (bx, by, bz):
            Q_tile = T.alloc_shared((block_M, width), dtype)
            K_tile = T.alloc_shared((block_N, width), dtype)
            V_tile = T.alloc_shared((block_N, width), dtype)
            scores = T.alloc_fragment((block_M, block_N), "float32")
            weights = T.alloc_fragment((block_M, block_N), dtype)
            sums = T.alloc_fragment((block_M, width), "float32")
            top = T.alloc_fragment((block_M,), "float32")
            previous = T.alloc_fragment((block_M,), "float32")
            part = T.alloc_fragment((block_M,), "float32")
            total = T.alloc_fragment((block_M,), "float32")
            T.copy(Q[bz, bx * block_M : (bx + 1) * block_M, by, :], Q_tile)
            T.clear(sums)
            T.clear(total)
            T.fill(top, -T.infinity("float32"))
            for k in T.Pipelined(T.ceildiv((bx + 1) * block_M, block_N), num_stages=2):
                T.copy(K[bz, k * block_N : (k + 1) * block_N, by // shared_by, :], K_tile)
                for i, j in T.Parallel(block_M, block_N):
                    scores[i, j] = T.if_then_else(bx * block_M + i >= k * block_N + j, 0, -T.infinity("float32"))
                T.gemm(Q_tile, K_tile, scores, transpose_B=True, policy=T.GemmWarpPolicy.FullRow)
                T.copy(top, previous)
                T.reduce_max(scores, top, dim=1, clear=False)
                for i, j in T.Parallel(block_M, block_N):
                    scores[i, j] = T.exp2((scores[i, j] - top[i]) * scale)
                T.reduce_sum(scores, part, dim=1)
                for i in T.Parallel(block_M):
                    previous[i] = T.exp2((previous[i] - top[i]) * scale)
                for i in T.Parallel(block_M):
                    total[i] = total[i] * previous[i] + part[i]
                for i, j in T.Parallel(block_M, width):
                    sums[i, j] *= previous[i]
                T.copy(scores, weights)
                T.copy(V[bz, k * block_N : (k + 1) * block_N, by // shared_by, :], V_tile)
                T.gemm(weights, V_tile, sums, policy=T.GemmWarpPolicy.FullRow)
            for i, j in T.Parallel(block_M, width):
                sums[i, j] /= total[i]
            T.copy(sums, O[bz, bx * block_M : (bx + 1) * block_M, by, :])

    return main


batch, length, heads, groups, width = 1, 200, 4, 2, 64
rng = np.random.default_rng(0)
q = rng.standard_normal((batch, length, heads, width)).astype(np.float16)
k, v = rng.standard_normal((2, batch, length, groups, width)).astype(np.float16)
kernel = attention(batch, length, heads, groups, width)
o = kernel(q, k, v)

for h in range(heads):
    scores = q[0, :, h].astype(np.float64) @ k[0, :, h // 2].T.astype(np.float64) / math.sqrt(width)
    weights = np.exp(np.where(np.tri(length, dtype=bool), scores, -np.inf))
    np.testing.assert_allclose(o[0, :, h], weights / weights.sum(axis=1, keepdims=True) @ v[0, :, h // 2], rtol=2e-3, atol=2e-3)
print(f"attention over {length} tokens, {heads} heads in {groups} groups: {do_bench(lambda: kernel(q, k, v), warmup=5, rep=20):.3f} ms")
