"""Too many arguments for a macro."""

import tilewright.language as T


@T.macro
def clear(A):
    T.clear(A)


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        clear(X, Y)
