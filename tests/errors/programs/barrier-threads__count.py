"""A named barrier for a number of threads that is no number of warps."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1, threads=64):
        tx = T.get_thread_binding(0)
        T.sync_threads(1, 48)
        Y[tx] = X[tx]
