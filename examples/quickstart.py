"""A first kernel: y = a * x + y on numpy arrays.

Run it with `tilewright run examples/quickstart.py` or with Python itself.
"""

import numpy as np

import tilewright
import tilewright.language as T


@tilewright.jit
def axpy(X, Y, a: T.float32, block: int = 1024):
    N = T.const("N")  # read from the shape of the arguments; the kernel is compiled once per size
    X: T.Tensor((N,), "float32")
    Y: T.Tensor((N,), "float32")
    Z = T.empty((N,), "float32")  # allocated by the call and returned
    with T.Kernel(T.ceildiv(N, block), threads=128) as bx:  # one block of the grid per 1024 elements, on all processors
        for i in T.Parallel(block):  # element-wise and vectorised; elements past the end are left out
            Z[bx * block + i] = a * X[bx * block + i] + Y[bx * block + i]
    return Z


rng = np.random.default_rng(0)
x, y = rng.standard_normal((2, 100_001), np.float32)
z = axpy(x, y, 0.5)
np.testing.assert_allclose(z, np.float32(0.5) * x + y, rtol=1e-6, atol=1e-6)
print(f"axpy of {z.size} elements: {z[:4]} ...")

# The same kernel as an object, to look at: its IR, and the code that was generated from it.
kernel = axpy.compile(x, y, 0.5)
print(kernel.ir("lowered"))
assert "axpy" in kernel.source
