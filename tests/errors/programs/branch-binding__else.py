"""A name bound differently in both paths."""

import tilewright.language as T


@T.prim_func
def kernel(Y: T.Tensor((64,), "float32"), n: T.int32):
    with T.Kernel(1):
        if n > 0:
            step = 1
        else:
            step = 2
        Y[0] = step
