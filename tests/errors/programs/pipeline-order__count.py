"""Two stages for three statements."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        s = T.alloc_shared((64,), "float32")
        T.copy(X, s)
        for k in T.Pipelined(4, stage=[0, 1]):
            T.copy(X, s)
            T.copy(s, Y)
            T.clear(s)
