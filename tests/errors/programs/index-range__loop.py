"""A loop index that is always outside."""

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        s = T.alloc_shared((64,), "float32")
        T.copy(X, s)
        for i in T.Parallel(16):
            Y[i] = s[i + 64]
tilewright.compile(kernel)
