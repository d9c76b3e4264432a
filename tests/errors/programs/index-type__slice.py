"""A slice bound with a fraction."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        T.copy(X[0.5:8], Y[0:8])
