"""A loop over a variable that its body forgets to change."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        i = T.alloc_var("int32", init=0)
        while i < 64:
            Y[i] = X[i]
