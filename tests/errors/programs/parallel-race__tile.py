"""All iterations store to one element of a tile."""

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        s = T.alloc_shared((1,), "float32")
        for i in T.Parallel(64):
            s[0] = X[i]
        T.copy(s, Y[0:1])
tilewright.compile(kernel)
