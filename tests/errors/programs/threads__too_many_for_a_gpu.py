"""A block of more threads than a GPU has; a CPU would not mind."""

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(A: T.Tensor((64, 64), "float32")):
    with T.Kernel(1, threads=(64, 64)):
        for i, j in T.Parallel(64, 64):
            A[i, j] += 1


tilewright.compile(kernel, target="cpu")
tilewright.compile(kernel, target="simulate")
