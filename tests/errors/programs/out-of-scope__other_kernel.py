"""A tile of another kernel."""

import tilewright.language as T


@T.prim_func
def first(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        T.clear(X)


tile = []


@T.prim_func
def second(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        s = T.alloc_shared((64,), "float32")
        tile.append(s)
        T.copy(X, s)


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1):
        T.copy(tile[0], Y)
