"""A reduction over threads whose operation is not commutative."""

import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1, threads=64):
        tx = T.get_thread_binding(0)
        out = T.alloc_local((1,), "float32")
        with T.attr(T.comm_reducer(lambda x, y: x - y, [T.float32(0)]), "reduce_scope", T.reinterpret(T.uint64(0), dtype="handle")):
            T.evaluate(T.tvm_thread_allreduce(T.uint32(1), X[tx], True, out[0], tx, dtype="handle"))
        Y[tx] = out[0]
