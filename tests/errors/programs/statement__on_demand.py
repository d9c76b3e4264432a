"""An atomic operation that only one outcome of a test asks for."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        if X[0] > 0 and T.atomic_add(Y[0], 1, return_prev=True) > 2:
            Y[1] = 1
