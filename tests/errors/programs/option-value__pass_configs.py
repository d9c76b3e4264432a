"""pass_configs with a number as key."""

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        T.copy(X, Y)
tilewright.compile(kernel, pass_configs={1: True})
