"""A plain helper function decides."""

import tilewright.language as T


def sign(x):
    return 1 if x > 0 else -1


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        Y[0] = sign(X[0])
