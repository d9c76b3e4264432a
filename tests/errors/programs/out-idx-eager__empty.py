"""out_idx beside T.empty."""

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32")):
    Y = T.empty((64,), "float32")
    with T.Kernel(1):
        T.copy(X, Y)
    return Y


tilewright.compile(kernel, out_idx=[1])
