import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
    with T.Kernel(1, threads=64):
        tx = T.get_thread_binding()
        Y[tx] = T.ptx("multiply.f32 %0, %1, %1;", X[tx], dtype="float32")


tilewright.compile(kernel, target="sm_90")
