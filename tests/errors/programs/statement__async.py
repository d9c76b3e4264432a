"""An async kernel."""

import tilewright.language as T


@T.prim_func
async def kernel(X: T.Tensor((64,), "float32")):
    pass
