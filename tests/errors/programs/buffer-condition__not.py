"""not of a tile."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        s = T.alloc_shared((64,), "float32")
        T.copy(X, s)
        if not s:
            Y[0] = 1
