"""The text before the value, as Python's print has it."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((8,), "float32")):
    with T.Kernel(1):
        T.print("x is", X[0])
