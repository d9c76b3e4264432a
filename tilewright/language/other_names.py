"""What other libraries call things, and what is written here instead (floor 5)."""

from __future__ import annotations

_GEMM = "T.gemm(A, B, C), which adds the product to the tile C"
_FILLED = "T.alloc_fragment(shape, dtype) and T.fill, or T.clear for zeros"
_BLOCK = "`with T.Kernel(...) as (bx, by)`, which names the indices of the block"
_ACCESS = "A[i, j] for an element, T.copy for a tile"
_REGIONS = "T.copy between regions, as in T.copy(a, c[0:8, :])"
_INDEXED = "an index in a T.Parallel loop: each access names its own axes"

# Names of numpy, torch, Triton and CUDA: what to write.
INSTEAD = {
    "arange": "the index of a loop, as in `for i in T.Parallel(n)`",
    "argmax": "T.reduce_max, and T.reduce_min over the indices of the elements that equal it",
    "argmin": "T.reduce_min, and T.reduce_min over the indices of the elements that equal it",
    "amax": "T.reduce_max(tile, out, dim)",
    "amin": "T.reduce_min(tile, out, dim)",
    "sum": "T.reduce_sum(tile, out, dim)",
    "mean": "T.reduce_sum(tile, out, dim), and divide by the size",
    "softmax": "T.reduce_max, T.exp and T.reduce_sum, as tilewright/kernels/softmax.py does",
    "atomicAdd": "T.atomic_add(A[i], value)",
    "blockIdx": _BLOCK,
    "block_idx": _BLOCK,
    "program_id": _BLOCK,
    "num_programs": "the extents that T.Kernel was given, or T.get_block_extent(0)",
    "threadIdx": "T.get_thread_binding(0)",
    "thread_idx": "T.get_thread_binding(0)",
    "blockDim": "T.get_thread_extent(0)",
    "barrier": "T.sync_threads()",
    "syncthreads": "T.sync_threads()",
    "broadcast": _INDEXED,
    "broadcast_to": _INDEXED,
    "expand_dims": _INDEXED,
    "squeeze": _INDEXED,
    "unsqueeze": _INDEXED,
    "cat": _REGIONS,
    "concat": _REGIONS,
    "concatenate": _REGIONS,
    "stack": _REGIONS,
    "dot": _GEMM,
    "matmul": _GEMM,
    "mm": _GEMM,
    "mma": _GEMM,
    "full": _FILLED,
    "ones": _FILLED,
    "zeros": _FILLED,
    "zeros_like": _FILLED,
    "kernel": "T.Kernel(...)",
    "launch": "T.Kernel(...)",
    "load": _ACCESS,
    "store": _ACCESS,
    "maximum": "T.max(a, b)",
    "minimum": "T.min(a, b)",
    "fmax": "T.max(a, b)",
    "fmin": "T.min(a, b)",
    "permute": "T.transpose(src, dst)",
    "range": "range(...), or T.serial(...)",
    "static_range": "T.unroll(...)",
    "reciprocal": "1 / x",
    "relu": "T.max(x, 0)",
    "square": "x * x",
    "where": "T.if_then_else(condition, a, b)",
}

__all__ = ["INSTEAD"]
