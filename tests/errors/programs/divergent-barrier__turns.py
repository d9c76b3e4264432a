import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1, threads=64):
        tile = T.alloc_shared((64,), "float32")
        tx = T.get_thread_binding()
        tile[tx] = X[tx]
        if X[tx] > 0:
            for k in T.serial(3):
                tile[tx] = tile[(tx + 1) % 64] + k
        Y[tx] = tile[tx]


tilewright.compile(kernel, target="simulate")
