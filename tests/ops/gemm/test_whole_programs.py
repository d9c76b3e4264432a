"""Pipelined products from the user's program to the simulator: T.gemm between copies and element-wise work, on tiles of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tilewright.dtypes import as_dtype
from tilewright.ir.stmt import Barrier
from tilewright.ir.visit import statements
from tilewright.passes import GPU_PASSES, run_passes
from tilewright.passes.context import GpuPassContext
from tilewright.sim.simulate import simulate
from tilewright.target.nvidia import SM_80, SM_90, NvidiaTarget


def product(m: int, n: int, k: int, dtype: str, threads: int, transpose_a: bool, transpose_b: bool) -> Any:
    """Three steps along k, then twice the product."""
    a_shape, b_shape = (3 * k, m) if transpose_a else (m, 3 * k), (n, 3 * k) if transpose_b else (3 * k, n)

    @T.prim_func
    def kernel(A: T.Tensor(a_shape, dtype), B: T.Tensor(b_shape, dtype), C: T.Tensor((m, n), "float32")):
        with T.Kernel(1, threads=threads):
            a = T.alloc_shared((k, m) if transpose_a else (m, k), dtype)
            b = T.alloc_shared((n, k) if transpose_b else (k, n), dtype)
            c = T.alloc_fragment((m, n), "float32")
            T.clear(c)
            for step in T.Pipelined(3, num_stages=2):
                if transpose_a:
                    T.copy(A[step * k, 0], a)
                else:
                    T.copy(A[0, step * k], a)
                if transpose_b:
                    T.copy(B[0, step * k], b)
                else:
                    T.copy(B[step * k, 0], b)
                T.gemm(a, b, c, transpose_A=transpose_a, transpose_B=transpose_b)
            for i, j in T.Parallel(m, n):
                c[i, j] = c[i, j] * 2
            T.copy(c, C)

    return kernel


@pytest.mark.parametrize(
    "m, n, k, dtype, threads, transpose_a, transpose_b, target",
    [
        (64, 64, 32, "float16", 128, False, False, SM_80),
        (64, 64, 32, "float16", 128, True, True, SM_90),
        (24, 104, 40, "float16", 384, False, True, SM_80),
        (20, 50, 16, "bfloat16", 96, True, False, SM_80),
        (33, 17, 12, "float32", 64, False, False, SM_80),
        (48, 1, 8, "float32", 32, True, False, SM_80),
        (32, 48, 16, "tfloat32", 128, False, False, SM_80),
    ],
)
def test_any_tile_on_any_number_of_threads(
    m: int, n: int, k: int, dtype: str, threads: int, transpose_a: bool, transpose_b: bool, target: NvidiaTarget
) -> None:
    kernel = product(m, n, k, dtype, threads, transpose_a, transpose_b)
    program = run_passes(kernel.program, GpuPassContext(target), GPU_PASSES)
    random = np.random.default_rng(m + n)
    a, b = (random.integers(-3, 4, p.buffer.static_shape).astype(as_dtype(dtype).numpy) for p in kernel.program.parameters[:2])
    report = simulate(program, {"A": a, "B": b, "C": np.zeros((m, n), np.float32)})
    assert report.is_clean, report.render()
    left, right = a.astype(np.float32), b.astype(np.float32)
    np.testing.assert_array_equal(report.outputs["C"], 2 * (left.T if transpose_a else left) @ (right.T if transpose_b else right))


def test_scores_stay_in_registers_between_two_products() -> None:
    """The accumulator of one product, converted, is the operand of the next: the warps' rows are the same, so nothing goes through shared memory."""

    @T.prim_func
    def kernel(Q: T.Tensor((64, 64), "float16"), K: T.Tensor((192, 64), "float16"), O: T.Tensor((64, 64), "float32")):
        with T.Kernel(1, threads=128):
            q, k = T.alloc_shared((64, 64), "float16"), T.alloc_shared((64, 64), "float16")
            scores, weights = T.alloc_fragment((64, 64), "float32"), T.alloc_fragment((64, 64), "float16")
            out = T.alloc_fragment((64, 64), "float32")
            T.clear(out)
            for step in T.Pipelined(3, num_stages=2):
                T.copy(Q, q)
                T.copy(K[step * 64, 0], k)
                T.gemm(q, k, scores, transpose_B=True, clear_accum=True, policy=T.GemmWarpPolicy.FullRow)
                T.copy(scores, weights)
                T.gemm(weights, k, out, policy=T.GemmWarpPolicy.FullRow)
            T.copy(out, O)

    context = GpuPassContext(SM_80)
    program = run_passes(kernel.program, context, GPU_PASSES)
    assert not context.remarks
    body = list(statements(program.launches[0].body))
    assert sum(isinstance(s, Barrier) for s in body) == 1
    random = np.random.default_rng(0)
    q, k = (random.integers(-1, 2, shape).astype(np.float16) for shape in ((64, 64), (192, 64)))
    report = simulate(program, {"Q": q, "K": k, "O": np.zeros((64, 64), np.float32)})
    assert report.is_clean, report.render()
    np.testing.assert_array_equal(report.outputs["O"], q.astype(np.float32) @ k.astype(np.float32).T @ k.astype(np.float32))
