"""A tensor over a float."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        Z = T.make_tensor(X[0], (8,), "float32")
