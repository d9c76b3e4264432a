"""A local array that is increased."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        p = T.alloc_local((64,), "float32")
        for i in T.Parallel(64):
            p[i] += X[i]
