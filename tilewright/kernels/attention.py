"""Flash attention, forward: softmax(Q K^T / sqrt(D)) V without the matrix of scores in memory (arXiv:2205.14135) (floor 9)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tilewright.language as T
from tilewright.driver import resolve_target
from tilewright.dtypes import as_dtype
from tilewright.jit import jit
from tilewright.target.cpu import CpuTarget


def tiles_for(target: Any, width: int, is_causal: bool, dtype: Any) -> dict[str, int]:
    """The tiles that `flash_attention` takes where its caller names none."""
    if isinstance(resolve_target(target), CpuTarget):
        return {"block_M": 64, "block_N": 128}
    if as_dtype(dtype).bits > 16:  # without tensor cores, and with twice the shared memory
        return {"block_M": 64, "block_N": 32} if width <= 64 else {"block_M": 32, "block_N": 32} if width <= 128 else {"block_M": 16, "block_N": 16}
    # 255 registers of a thread hold its part of `sums` and `scores`; masks take some.
    return {"block_M": 64, "block_N": 32} if width > 128 else {"block_M": 128, "block_N": 32 if width > 64 and is_causal else 64}


@jit(out_idx=[-1], target_argument="target")
def flash_attention(
    batch: int,
    heads: int,
    length_q: int,
    length_k: int,
    width: int,
    is_causal: bool = False,
    dtype: Any = "float32",
    block_M: int | None = None,
    block_N: int | None = None,
    stages: int = 2,
    threads: int = 128,
    is_heads_first: bool = False,
    target: Any = None,
) -> Any:
    """A kernel for Q (batch, length_q, heads, width) and K, V (batch, length_k, heads, width) that returns O, shaped like Q.

    Causal: the last query sees every key, each earlier one a key less. Sums are float32.

    is_heads_first     all tensors are (batch, heads, length, width), as torch's scaled_dot_product_attention has them.
    block_M, block_N   queries and keys of a tile; None: what suits the target.
    target             as for `tilewright.compile`.

    Raises ValueError where a causal query would see no key.
    """
    if is_causal and length_q > length_k:
        raise ValueError(f"with {length_q} queries and {length_k} keys, the first queries of causal attention see no key")
    tiles = tiles_for(target, width, is_causal, dtype)
    block_M, block_N = block_M or tiles["block_M"], block_N or tiles["block_N"]
    # Powers of two are cheaper than powers of e: the scale carries the factor.
    scale = math.log2(math.e) / math.sqrt(width)
    past = length_k - length_q
    shape_q, shape_k = ((batch, heads, n, width) if is_heads_first else (batch, n, heads, width) for n in (length_q, length_k))

    def rows(tensor: Any, batch_index: Any, head: Any, first: Any, count: int) -> Any:
        """`count` rows of one head."""
        span = slice(first, first + count)
        return tensor[batch_index, head, span, :] if is_heads_first else tensor[batch_index, span, head, :]

    @T.prim_func
    def main(
        Q: T.Tensor(shape_q, dtype),
        K: T.Tensor(shape_k, dtype),
        V: T.Tensor(shape_k, dtype),
        O: T.Tensor(shape_q, dtype),
    ):
        with T.Kernel(T.ceildiv(length_q, block_M), heads, batch, threads=threads) as (block, by, bz):
            bx = T.ceildiv(length_q, block_M) - 1 - block if is_causal else block  # the last rows see most keys: longest first
            Q_tile = T.alloc_shared((block_M, width), dtype)
            K_tile = T.alloc_shared((block_N, width), dtype)
            V_tile = T.alloc_shared((block_N, width), dtype)
            scores = T.alloc_fragment((block_M, block_N), "float32")
            weights = T.alloc_fragment((block_M, block_N), dtype)
            sums = T.alloc_fragment((block_M, width), "float32")
            largest = T.alloc_fragment((block_M,), "float32")
            previous = T.alloc_fragment((block_M,), "float32")
            rescale = T.alloc_fragment((block_M,), "float32")
            row_total = T.alloc_fragment((block_M,), "float32")
            total = T.alloc_fragment((block_M,), "float32")

            T.copy(rows(Q, bz, by, bx * block_M, block_M), Q_tile)
            T.clear(sums)
            T.clear(total)
            T.fill(largest, -T.infinity("float32"))
            last = T.ceildiv((bx + 1) * block_M + past, block_N) if is_causal else T.ceildiv(length_k, block_N)
            if is_causal and length_q % block_M:  # the last rows are none
                last = T.min(last, T.ceildiv(length_k, block_N))
            for k in T.Pipelined(last, num_stages=stages):
                T.copy(rows(K, bz, by, k * block_N, block_N), K_tile)
                if is_causal:
                    if (k + 1) * block_N > bx * block_M + past:  # only the last tiles hold keys that some query must not see
                        for i, j in T.Parallel(block_M, block_N):
                            scores[i, j] = T.if_then_else(bx * block_M + i + past >= k * block_N + j, 0, -T.infinity("float32"))
                    else:
                        T.clear(scores)
                elif length_k % block_N:
                    for i, j in T.Parallel(block_M, block_N):
                        scores[i, j] = T.if_then_else(k * block_N + j < length_k, 0, -T.infinity("float32"))
                else:
                    T.clear(scores)
                T.gemm(Q_tile, K_tile, scores, transpose_B=True, policy=T.GemmWarpPolicy.FullRow)

                T.copy(largest, previous)
                T.reduce_max(scores, largest, dim=1, clear=False)
                for i in T.Parallel(block_M):
                    rescale[i] = T.exp2(previous[i] * scale - largest[i] * scale)
                for i, j in T.Parallel(block_M, block_N):
                    scores[i, j] = T.exp2(scores[i, j] * scale - largest[i] * scale)  # one multiply-add: the second product is the row's
                T.reduce_sum(scores, row_total, dim=1)
                for i in T.Parallel(block_M):
                    total[i] = total[i] * rescale[i] + row_total[i]
                T.copy(scores, weights)
                for i, j in T.Parallel(block_M, width):
                    sums[i, j] *= rescale[i]
                T.copy(rows(V, bz, by, k * block_N, block_N), V_tile)
                T.gemm(weights, V_tile, sums, policy=T.GemmWarpPolicy.FullRow)
            for i, j in T.Parallel(block_M, width):
                sums[i, j] /= total[i]
            T.copy(sums, rows(O, bz, by, bx * block_M, block_M))

    return main


def reference(Q: Any, K: Any, V: Any, is_causal: bool = False) -> Any:
    """The same in float64, with the whole matrix of scores."""
    q, k, v = (np.asarray(x, np.float64).transpose(0, 2, 1, 3) for x in (Q, K, V))
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    if is_causal:
        past = k.shape[-2] - q.shape[-2]
        scores = np.where(np.arange(q.shape[-2])[:, None] + past >= np.arange(k.shape[-2]), scores, -np.inf)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True) @ v).transpose(0, 2, 1, 3)
