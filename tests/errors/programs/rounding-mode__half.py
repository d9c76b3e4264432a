"""16-bit arithmetic rounded up."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        Y[0] = T.ieee_add(T.float16(X[0]), T.float16(X[1]), "ru")
