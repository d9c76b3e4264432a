"""An array whose elements are one."""

import numpy as np

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.StridedTensor((64,), (0,), "float32")):
    with T.Kernel(1):
        T.clear(X)
run = tilewright.compile(kernel)
run(np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (64,), (0,)))
