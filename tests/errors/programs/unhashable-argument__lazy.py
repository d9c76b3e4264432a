"""Tensors for the factory, not for the kernel that it makes."""

import numpy as np

import tilewright
import tilewright.language as T


@tilewright.jit(out_idx=[-1])
def double(N):
    @T.prim_func
    def main(A: T.Tensor((N,), "float32"), B: T.Tensor((N,), "float32")):
        with T.Kernel(1):
            for i in T.Parallel(N):
                B[i] = A[i] * 2

    return main


double(np.zeros(8, np.float32))
