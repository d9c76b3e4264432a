"""One of two outputs is forgotten."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32")):
    Y = T.empty((64,), "float32")
    Z = T.empty((64,), "float32")
    with T.Kernel(1):
        T.copy(X, Y)
        T.copy(X, Z)
    return Y
