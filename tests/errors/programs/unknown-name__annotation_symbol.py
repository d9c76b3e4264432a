"""A name in a quoted annotation that does not exist."""

import tilewright.language as T


@T.prim_func
def kernel(X: "T.Tensor((m,), 'float32')"):
    with T.Kernel(1):
        T.clear(X)
