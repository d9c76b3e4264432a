"""A loop bound to threads."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    for tx in T.thread_binding(64, thread="threadIdx.x"):
        Y[tx] = X[tx]
