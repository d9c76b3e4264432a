"""A layout of unknown shape."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32"), n: T.int32):
    with T.Kernel(1):
        s = T.alloc_shared((64,), "float32")
        T.copy(X, s)
        T.annotate_layout({s: T.Layout((n,), lambda i: i)})
