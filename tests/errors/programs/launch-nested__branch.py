"""A launch under a condition of the kernel."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), n: T.int32):
    if n > 0:
        with T.Kernel(1):
            T.clear(X)
