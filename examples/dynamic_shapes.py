"""One kernel for every number of rows: T.dynamic sizes are read from the arguments of each call.

The compiler knows nothing of M but that it is a size: it guards the last block, and checks at the call that the arguments agree.
"""

import numpy as np

import tilewright
import tilewright.language as T

M = T.dynamic("M")
N, BLOCK = 96, 32


@T.prim_func
def add_bias(X: T.Tensor((M, N), "float32"), bias: T.Tensor((N,), "float32"), rows: T.Tensor((M,), "int32"), Y: T.Tensor((M, N), "float32")):
    with T.Kernel(T.ceildiv(M, BLOCK), threads=128) as bx:
        for i, j in T.Parallel(BLOCK, N):
            Y[bx * BLOCK + i, j] = X[rows[bx * BLOCK + i], j] + bias[j]


kernel = tilewright.compile(add_bias, out_idx=[-1])
rng = np.random.default_rng(0)
bias = rng.standard_normal(N).astype(np.float32)
for m in (1, 31, 32, 1000):
    x = rng.standard_normal((m, N)).astype(np.float32)
    rows = rng.permutation(m).astype(np.int32)
    np.testing.assert_array_equal(kernel(x, bias, rows), x[rows] + bias)
    print(f"{m:5} rows: right")

try:
    kernel(x, bias, rows[:-1])
except tilewright.TileError as error:
    assert error.code == "argument-symbol", error.code
    print(f"\nArguments that don't agree are refused:\n{error}")
else:
    raise AssertionError("rows of another length were accepted")
