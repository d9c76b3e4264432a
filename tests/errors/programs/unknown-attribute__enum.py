"""A warp policy that does not exist."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        policy = T.GemmWarpPolicy.FullRows
        T.copy(X, Y)
