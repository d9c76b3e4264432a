"""A quoted annotation that is no expression."""

import tilewright.language as T


@T.prim_func
def kernel(X: "float32 tensor"):
    with T.Kernel(1):
        T.clear(X)
