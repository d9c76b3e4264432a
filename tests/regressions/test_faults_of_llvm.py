"""Programs that LLVM compiled wrongly, as long as it saw what they do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import run
from tilewright.dtypes import as_dtype


def one_lane(dtype: str, lane: int, extent: int, is_tile: bool) -> Any:
    @T.prim_func
    def main(A: T.Tensor((extent,), "int32"), B: T.Tensor((extent,), dtype)):
        with T.Kernel(1):
            tile = T.alloc_shared((extent,), dtype)
            if is_tile:
                for i in T.Parallel(extent):
                    if i != lane:
                        tile[i] = 1
                    else:
                        tile[i] = A[i] + i
                T.copy(tile, B)
            else:
                for i in T.Parallel(extent):
                    if i != lane:
                        B[i] = 1
                    else:
                        B[i] = A[i] + i

    return main


@pytest.mark.parametrize("is_tile", [False, True])
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int8", "uint8", "int16", "float16", "bfloat16", "int32", "bool"])
@pytest.mark.parametrize("lane, extent", [(0, 16), (3, 16), (5, 8), (31, 32)])
def test_a_store_of_one_lane_leaves_its_neighbours_alone(dtype: str, lane: int, extent: int, is_tile: bool) -> None:
    """A masked store whose mask is known to hold one lane became a store of that lane before it is narrowed."""
    kind = as_dtype(dtype)
    expected = np.ones(extent, np.int32)
    expected[lane] = 4 + lane
    found = run(one_lane(dtype, lane, extent, is_tile), A=np.full(extent, 4, np.int32), B=np.zeros(extent, kind.numpy))["B"]
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(kind.numpy).astype(np.float32))
