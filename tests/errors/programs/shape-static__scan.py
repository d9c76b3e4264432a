"""A scan of a region of unknown size."""

import tilewright.language as T


@T.prim_func
def kernel(Y: T.Tensor((64,), "float32"), n: T.int32):
    with T.Kernel(1):
        T.cumsum(Y[0:n])
