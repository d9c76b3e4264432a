"""A matrix product in half precision on the GPU, where torch finds one, and on the CPU otherwise: the kernel is the same.

The GPU needs `pip install 'tilewright[cuda]'`, and tensors that lie on it: here torch's. `tilewright check examples/gpu_gemm.py` runs
the GPU program in the simulator, without a GPU.
"""

import importlib
import importlib.util

import numpy as np

import tilewright
import tilewright.language as T


@tilewright.jit(out_idx=[-1])
def matmul(M, N, K, block_M=128, block_N=128, block_K=32, stages=4, dtype="float16"):
    @T.prim_func
    def main(A: T.Tensor((M, K), dtype), B: T.Tensor((K, N), dtype), C: T.Tensor((M, N), dtype)):
        with T.Kernel(T.ceildiv(N, block_N), T.ceildiv(M, block_M), threads=128) as (bx, by):
            A_tile = T.alloc_shared((block_M, block_K), dtype)  # stored so that neither copies nor tensor cores meet bank conflicts
            B_tile = T.alloc_shared((block_K, block_N), dtype)
            sums = T.alloc_fragment((block_M, block_N), "float32")  # the registers of four warps
            T.clear(sums)
            for k in T.Pipelined(T.ceildiv(K, block_K), num_stages=stages):  # copies run ahead of the products, without registers
                T.copy(A[by * block_M, k * block_K], A_tile)
                T.copy(B[k * block_K, bx * block_N], B_tile)
                T.gemm(A_tile, B_tile, sums)  # tensor cores
            T.copy(sums, C[by * block_M, bx * block_N])

    return main


torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
target = "cuda" if torch is not None and torch.cuda.is_available() else "cpu"

M, N, K = 200, 264, 136
rng = np.random.default_rng(0)
a, b = rng.standard_normal((M, K)).astype(np.float16), rng.standard_normal((K, N)).astype(np.float16)

kernel = tilewright.compile(matmul.get_tir(M, N, K), out_idx=[-1], target=target)
if target == "cuda":
    c = kernel(torch.from_numpy(a).cuda(), torch.from_numpy(b).cuda()).cpu().numpy()
    print(kernel.resources()[0])
else:
    c = kernel(a, b)
np.testing.assert_allclose(c, a.astype(np.float64) @ b.astype(np.float64), rtol=2e-3, atol=2e-3)
print(f"{M}x{N}x{K} for {kernel.target.name}: right")
