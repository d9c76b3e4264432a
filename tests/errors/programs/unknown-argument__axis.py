"""numpy's name of an argument."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((8, 8), "float32")):
    with T.Kernel(1):
        tile = T.alloc_fragment((8, 8), "float32")
        sums = T.alloc_fragment((8,), "float32")
        T.copy(X, tile)
        T.reduce_sum(tile, sums, axis=1)
