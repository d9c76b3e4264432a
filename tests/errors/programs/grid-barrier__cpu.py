import tilewright
import tilewright.language as T


@T.prim_func
def kernel(X: T.Tensor((8,), "float32"), steps: T.int32, Y: T.Tensor((8,), "float32")):
    with T.Kernel(8, threads=32) as b:
        for k in T.serial(steps):
            X[b] = X[b] + Y[b]
            T.sync_grid()
            Y[b] = X[(b + 1) % 8]


tilewright.compile(kernel, target="cpu")
