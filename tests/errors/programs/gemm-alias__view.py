"""A view of the result as operand."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        c = T.alloc_shared((64, 64), "float32")
        a = T.view(c, (64, 64))
        T.gemm(a, a, c)
