"""A macro that stores, in one part of a ternary."""

import tilewright.language as T


@T.macro
def record(Y, value):
    Y[0] = value
    return value


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        Y[1] = record(Y, X[0]) if X[1] > 0 else 0
