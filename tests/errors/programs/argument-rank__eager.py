"""An eager call with a matrix."""

import numpy as np

import tilewright
import tilewright.language as T


@tilewright.jit
def clear(X):
    N = T.const("N")
    X: T.Tensor((N,), "float32")
    with T.Kernel(1):
        T.clear(X)


clear(np.zeros((8, 8), np.float32))
