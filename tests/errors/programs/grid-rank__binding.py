"""A block index that the grid does not have."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(4):
        Y[T.get_block_binding(1)] = 0
