"""Looking into a kernel while it runs: T.print, T.device_assert, and the reference beside every call.

TILEWRIGHT_CHECK=1 in the environment runs each call a second time, by the numpy meaning of every operation, and compares.
"""

import os

import numpy as np

import tilewright
import tilewright.language as T


@tilewright.jit(out_idx=[-1])
def reciprocal(N, block=8):
    @T.prim_func
    def main(X: T.Tensor((N,), "float32"), Y: T.Tensor((N,), "float32")):
        with T.Kernel(T.ceildiv(N, block), threads=32) as bx:
            x = T.alloc_fragment((block,), "float32")
            T.copy(X[bx * block], x)
            if bx == 0:
                T.print(x, msg="first tile")
            for i in T.Parallel(block):
                if bx * block + i < N:
                    T.device_assert(x[i] != 0, "a divisor is zero")
            for i in T.Parallel(block):
                x[i] = 1 / x[i]
            T.copy(x, Y[bx * block])

    return main


x = np.arange(1, 21, dtype=np.float32)
kernel = reciprocal(20)
np.testing.assert_allclose(kernel(x), 1 / x, rtol=1e-6)

x[13] = 0
try:
    kernel(x)
except tilewright.TileError as error:
    assert error.code == "device-assert", error.code
    print(f"The assertion stops the kernel, and names its line:\n{error}\n")
else:
    raise AssertionError("the kernel divided by zero")

# What the environment variable does for every call:
x[13] = 1
os.environ["TILEWRIGHT_CHECK"] = "1"
np.testing.assert_allclose(kernel(x), 1 / x, rtol=1e-6)
print("The compiled kernel agrees with the reference.")
