"""A macro returns from a branch."""

import tilewright.language as T


@T.macro
def sign(x):
    if x < 0:
        return -1
    return 1


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        Y[0] = sign(X[0])
