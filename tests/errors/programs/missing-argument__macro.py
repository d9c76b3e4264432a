"""A macro called with too few arguments."""

import tilewright.language as T


@T.macro
def clear(A, value):
    T.fill(A, value)


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        clear(X)
