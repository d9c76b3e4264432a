"""Any number of tensors."""

import tilewright.language as T


@T.prim_func
def kernel(*X: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        T.clear(X[0])
