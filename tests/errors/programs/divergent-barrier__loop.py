"""A barrier in a loop that each thread leaves at a turn of its own."""

import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "int32"), Y: T.Tensor((64,), "int32")):
    with T.Kernel(1, threads=64):
        tx = T.get_thread_binding(0)
        for k in T.serial(X[tx]):
            T.sync_threads()
            Y[tx] = k


tilewright.compile(kernel)
