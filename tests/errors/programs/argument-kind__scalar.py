"""A tensor for a scalar."""

import numpy as np

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(Y: T.Tensor((64,), "float32"), n: T.int32):
    with T.Kernel(1):
        Y[0] = n
run = tilewright.compile(kernel)
run(np.zeros(64, np.float32), np.zeros(64, np.float32))
