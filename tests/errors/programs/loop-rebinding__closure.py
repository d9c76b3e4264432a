"""A lambda reads a name that a loop bound."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        for i in range(3):
            x = i
        read = lambda: x + 1
        Y[0] = read()
