"""Parameters without annotations."""

import tilewright.language as T


@T.prim_func
def kernel(X, Y):
    with T.Kernel(1):
        T.copy(X, Y)
