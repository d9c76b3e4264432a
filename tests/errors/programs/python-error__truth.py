"""An array as condition."""

import numpy as np

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        if np.zeros(3):
            T.copy(X, Y)
