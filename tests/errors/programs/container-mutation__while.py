"""A list that grows in a while loop."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        v = T.alloc_var("int32")
        seen = [0]
        while v < 8:
            seen[0] = v
            v += 1
