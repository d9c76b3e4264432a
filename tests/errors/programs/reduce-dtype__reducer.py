"""A bitwise reducer of floats."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        r = T.alloc_reducer((8,), "float32", "bitor")
