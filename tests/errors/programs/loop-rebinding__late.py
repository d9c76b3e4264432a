"""A value for the next turn."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        last = 0.0
        for i in range(8):
            Y[i] = last
            last = X[i]
