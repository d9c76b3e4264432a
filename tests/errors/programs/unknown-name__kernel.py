"""T.Kernel in small letters, which is a module of tilewright."""

import tilewright.language as T


@T.prim_func
def main(X: T.Tensor((8,), "float32")):
    with T.kernel(1) as bx:
        X[bx] = 1
