"""An output of a size that nobody gives."""

import tilewright.language as T

m = T.dynamic("m")


@T.prim_func
def kernel(X: T.Tensor((64,), "float32")):
    Y = T.empty((m,), "float32")
    with T.Kernel(1):
        T.clear(Y)
    return Y
