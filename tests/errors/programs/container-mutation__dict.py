"""A dictionary filled in a branch."""

import tilewright.language as T


@T.prim_func
def kernel(Y: T.Tensor((64,), "float32"), n: T.int32):
    with T.Kernel(1):
        d = {}
        if n > 0:
            d["step"] = 1
        else:
            d["step"] = 2
        Y[0] = d["step"]
