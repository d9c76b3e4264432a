"""A loop one turn too long."""

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64, 64), "float32"), Y: T.Tensor((64, 64), "float32")):
    with T.Kernel(1):
        s = T.alloc_shared((64, 64), "float32")
        T.copy(X, s)
        for i, j in T.Parallel(65, 64):
            Y[i, j] = s[i, j]
tilewright.compile(kernel)
