"""Too many arguments."""

import numpy as np

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        T.copy(X, Y)
run = tilewright.compile(kernel)
run(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)
