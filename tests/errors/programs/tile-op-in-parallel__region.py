"""A region assigned in T.Parallel."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        for i in T.Parallel(8):
            Y[i * 8 : i * 8 + 8] = 0
