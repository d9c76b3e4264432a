"""A size that the function does not have."""

import tilewright
import tilewright.language as T


@tilewright.jit
def clear(X):
    N = T.const("N")
    X: T.Tensor((N,), "float32")
    with T.Kernel(1):
        T.clear(X)


clear.compile(N=64, M=3)
