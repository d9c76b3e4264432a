"""An assignment inside and."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        if X[0] > 0 and (x := X[1]) > 0:
            Y[0] = x
