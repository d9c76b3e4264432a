"""An update of a whole reducer."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        r = T.alloc_reducer((8,), "float32", "sum")
        T.reducer_update(r, 1)
