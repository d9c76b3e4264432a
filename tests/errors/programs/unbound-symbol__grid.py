"""The grid depends on a symbol that no tensor has."""

import tilewright.language as T

m = T.dynamic("m")


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(m) as bx:
        Y[bx] = 0
