"""As many strides as dimensions."""

import tilewright.language as T


@T.prim_func
def kernel(p: T.ptr):
    with T.Kernel(1):
        Z = T.make_tensor(p, (8, 8), "float32", strides=(8,))
