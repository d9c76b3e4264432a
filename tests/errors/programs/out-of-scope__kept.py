"""An index that a helper kept after its loop."""

import tilewright.language as T

kept = []


def keep(value):
    kept.append(value)


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        for i in range(8):
            keep(i)
            Y[i] = 0
        Y[kept[0]] = 1
