"""A Python type that is no scalar."""

import tilewright.language as T


@T.prim_func
def kernel(X: str):
    with T.Kernel(1):
        T.clear(X)
