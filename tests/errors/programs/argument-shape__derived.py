"""A size that is no multiple."""

import numpy as np

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((T.dynamic("n") * 2,), "float32")):
    with T.Kernel(1):
        T.clear(X[0:1])
run = tilewright.compile(kernel)
run(np.zeros(7, np.float32))
