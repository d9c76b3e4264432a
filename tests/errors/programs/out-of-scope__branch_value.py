"""A value that was read inside a branch."""

import tilewright.language as T

kept = []


def keep(value):
    kept.append(value)


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        if X[0] > 0:
            x = X[1]
            keep(x)
        Y[0] = kept[0]
