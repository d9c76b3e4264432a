"""A counter without a variable."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        count = 0
        for i in range(8):
            if X[i] > 0:
                count += 1
        Y[0] = count
