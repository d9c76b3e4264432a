"""The sine of an address."""

import tilewright.language as T


@T.prim_func
def kernel(Y: T.Tensor((64,), "float32"), p: T.ptr):
    with T.Kernel(1):
        Y[0] = T.sin(p)
