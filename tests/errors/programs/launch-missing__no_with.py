"""T.Kernel without with."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    T.Kernel(4, threads=128)
    T.copy(X, Y)
