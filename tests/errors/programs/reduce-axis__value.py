"""An axis that is a value."""

import tilewright.language as T


@T.prim_func
def kernel(Y: T.Tensor((64,), "float32"), n: T.int32):
    with T.Kernel(1):
        f = T.alloc_fragment((8, 8), "float32")
        T.clear(f)
        r = T.alloc_fragment((8,), "float32")
        T.reduce_sum(f, r, dim=n)
