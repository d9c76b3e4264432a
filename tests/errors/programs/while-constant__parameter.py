"""A loop over a parameter."""

import tilewright.language as T


@T.prim_func
def kernel(Y: T.Tensor((64,), "float32"), n: T.int32):
    with T.Kernel(1):
        while n > 0:
            Y[0] += 1
