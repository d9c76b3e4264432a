"""The product of two tiles with an operator."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        f = T.alloc_fragment((8, 8), "float32")
        T.clear(f)
        c = f @ f
