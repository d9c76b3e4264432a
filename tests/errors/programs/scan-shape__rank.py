"""A scan into a vector."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        f = T.alloc_fragment((8, 8), "float32")
        T.clear(f)
        T.cumsum(f, Y)
