"""A sum of bools."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        b = T.alloc_fragment((8,), "bool")
        r = T.alloc_fragment((1,), "bool")
        T.reduce_sum(b, r)
