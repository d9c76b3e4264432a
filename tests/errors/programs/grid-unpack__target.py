"""A block index bound to an element."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(4) as Y[0]:
        Y[0] = 0
