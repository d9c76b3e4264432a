"""A view that does not cover the tensor."""

import numpy as np

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(Y: T.Tensor((64,), "float32"), n: T.int32):
    with T.Kernel(1):
        v = T.view(Y, (n, 2))
        v[0, 0] = 1
run = tilewright.compile(kernel)
run(np.zeros(64, np.float32), 7)
