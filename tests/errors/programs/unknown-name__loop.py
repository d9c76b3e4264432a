"""A name that only another turn of a loop would bind."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        for i in range(4):
            Y[i] = later
            later = i
