import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1, threads=64):
        tile = T.alloc_shared((64,), "float32")
        tx = T.get_thread_binding()
        if tx < 48:
            tile[tx] = X[tx]
            Y[tx] = tile[47 - tx]


tilewright.compile(kernel, target="simulate")
