"""A name first bound in a branch."""

import tilewright.language as T


@T.prim_func
def kernel(Y: T.Tensor((64,), "float32"), n: T.int32):
    with T.Kernel(1):
        if n > 0:
            step = n
        Y[0] = step
