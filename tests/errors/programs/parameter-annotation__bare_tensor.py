"""T.Tensor without a shape."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor):
    with T.Kernel(1):
        T.clear(X)
