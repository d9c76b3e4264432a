"""A misspelt target."""

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        T.copy(X, Y)
tilewright.compile(kernel, target="cudaa")
