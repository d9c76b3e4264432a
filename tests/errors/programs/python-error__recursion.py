"""A macro that calls itself without end."""

import tilewright.language as T


@T.macro
def again(X):
    again(X)


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        again(X)
