"""Strides that are not the declared ones."""

import numpy as np

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.StridedTensor((8, 8), (16, 1), "float32")):
    with T.Kernel(1):
        X[0, 0] = 0
run = tilewright.compile(kernel)
run(np.zeros((8, 8), np.float32))
