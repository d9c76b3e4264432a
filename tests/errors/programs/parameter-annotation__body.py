"""A parameter declared in the body as a number."""

import numpy as np

import tilewright
import tilewright.language as T


@tilewright.jit
def clear(X):
    X: 3
    with T.Kernel(1):
        T.clear(X)


clear(np.zeros(3, np.float32))
