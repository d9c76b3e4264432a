"""Narrow values of an accumulator reach global memory 16 bytes at a time."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tilewright import dtypes
from tilewright.dtypes import as_dtype
from tilewright.ir.thread import VectorCopy
from tilewright.ir.visit import statements
from tilewright.layout import LANE, REG, WARP
from tilewright.ops.gemm.partition import GemmWarpPolicy, choose_partition
from tilewright.passes import GPU_PASSES, run_passes
from tilewright.passes.context import GpuPassContext
from tilewright.passes.wide_stores import wide_layout
from tilewright.target.nvidia import SM_90


def product(columns: int, dtype: str, block_n: int = 64, scale: float = 1.0) -> Any:
    @T.prim_func
    def main(A: T.Tensor((64, 32), "float16"), B: T.Tensor((32, columns), "float16"), C: T.Tensor((64, columns), dtype)):
        with T.Kernel(T.ceildiv(columns, block_n), threads=128) as bx:
            a = T.alloc_shared((64, 32), "float16")
            b = T.alloc_shared((32, block_n), "float16")
            c = T.alloc_fragment((64, block_n), "float32")
            T.copy(A, a)
            T.copy(B[0, bx * block_n], b)
            T.gemm(a, b, c, clear_accum=True)
            for i, j in T.Parallel(64, block_n):
                C[i, bx * block_n + j] = c[i, j] * scale

    return main


def store_bytes(func: Any) -> set[int]:
    """Sizes of the wide stores to global memory; 0 where there is none."""
    program = run_passes(func.program, GpuPassContext(SM_90), GPU_PASSES)
    copies = [s for s in statements(program.launches[0].body) if isinstance(s, VectorCopy) and s.dst.buffer.name == "C"]
    return {s.size_bytes for s in copies} or {0}


@pytest.mark.parametrize("dtype, block_n, wanted", [("float16", 64, 16), ("bfloat16", 32, 16), ("float8_e4m3fn", 64, 16), ("float32", 64, 8)])
def test_values_narrower_than_their_sums_are_stored_widely(dtype: str, block_n: int, wanted: int) -> None:
    """float32 fills whole sectors as it lies."""
    assert store_bytes(product(128, dtype, block_n)) == {wanted}


@pytest.mark.parametrize("columns", [130, 64 + 8 + 4])
def test_rows_that_do_not_begin_at_sixteen_bytes_are_stored_as_they_lie(columns: int) -> None:
    assert 16 not in store_bytes(product(columns, "float16"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("columns", [64, 128, 72, 130])
def test_the_result_is_the_product(dtype: str, columns: int) -> None:
    rng = np.random.default_rng(columns)
    a, b = (rng.integers(-2, 3, shape).astype(np.float16) for shape in ((64, 32), (32, columns)))
    found = tilewright.compile(product(columns, dtype, scale=0.5), out_idx=[-1], target="simulate")(a, b)
    exact = a.astype(np.float32) @ b.astype(np.float32) * 0.5
    np.testing.assert_array_equal(found.astype(np.float32), exact.astype(getattr(ml_dtypes, dtype, None) or dtype).astype(np.float32))


@pytest.mark.parametrize("elements", [8, 16])
@pytest.mark.parametrize("m, n, num_threads", [(128, 128, 128), (128, 256, 256), (64, 32, 128), (16, 64, 32)])
def test_threads_get_runs_and_warps_keep_their_tiles(m: int, n: int, num_threads: int, elements: int) -> None:
    half = as_dtype("float16")
    accumulator = choose_partition(m, n, 32, half, half, dtypes.float32, num_threads, GemmWarpPolicy.Square, SM_90).accumulator_layout
    wide = wide_layout(accumulator, elements)
    assert wide is not None and wide.is_injective
    at = wide.reorder(ins=[WARP, LANE, REG]).table().reshape(num_threads // 32, 32, -1, 2)
    runs = at.reshape(*at.shape[:2], -1, elements, 2)
    assert (np.diff(runs[..., 1], axis=-1) == 1).all() and (np.diff(runs[..., 0], axis=-1) == 0).all() and (runs[..., 0, 1] % elements == 0).all()
    before = accumulator.reorder(ins=[WARP, LANE, REG]).table().reshape(num_threads // 32, -1, 2)
    for mine, theirs in zip(at.reshape(before.shape), before, strict=True):
        assert set(map(tuple, mine.tolist())) == set(map(tuple, theirs.tolist()))


def test_a_warp_without_whole_runs_keeps_its_layout() -> None:
    half = as_dtype("float16")
    narrow = choose_partition(16, 8, 32, half, half, dtypes.float32, 32, GemmWarpPolicy.Square, SM_90).accumulator_layout
    assert wide_layout(narrow, 8) is None  # two digits of a run are in the lanes, and the registers have one to give
