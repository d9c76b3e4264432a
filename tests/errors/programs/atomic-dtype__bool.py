"""An atomic on bools."""

import tilewright.language as T


@T.prim_func
def kernel(Y: T.Tensor((64,), "bool")):
    with T.Kernel(1):
        T.atomic_max(Y[0], 1)
