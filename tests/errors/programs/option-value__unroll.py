"""Two ways to unroll."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        for i in T.unroll(64, explicit=True, unroll_factor=4):
            Y[i] = 0
