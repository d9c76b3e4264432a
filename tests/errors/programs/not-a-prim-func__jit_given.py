"""A jit function given to compile."""

import tilewright
import tilewright.language as T


@tilewright.jit
def clear(X: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        T.clear(X)


tilewright.compile(clear)
