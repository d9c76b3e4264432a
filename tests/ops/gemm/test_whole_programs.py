"""Pipelined products from the user's program to the simulator: T.gemm between copies and element-wise work, on tiles of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tilewright.dtypes import as_dtype
from tilewright.intrin.nvidia.convert import nearest_tf32
from tilewright.ir.stmt import Barrier
from tilewright.ir.visit import statements
from tilewright.passes import GPU_PASSES, run_passes
from tilewright.passes.context import GpuPassContext
from tilewright.runtime.nvrtc import is_nvrtc_installed
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


def with_accumulator(dtype: str, accumulator: str) -> Any:
    @T.prim_func
    def kernel(A: T.Tensor((64, 96), dtype), B: T.Tensor((96, 64), dtype), C: T.Tensor((64, 64), accumulator)):
        with T.Kernel(1, threads=128):
            a, b, c = T.alloc_shared((64, 32), dtype), T.alloc_shared((32, 64), dtype), T.alloc_fragment((64, 64), accumulator)
            T.clear(c)
            for step in T.Pipelined(3, num_stages=2):
                T.copy(A[0, step * 32], a)
                T.copy(B[step * 32, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)

    return kernel


def test_float16_accumulators_stay_float16() -> None:
    """Sums that float16 holds are exact; others are rounded after every instruction, and no farther from the truth than that explains."""
    kernel = tilewright.compile(with_accumulator("float16", "float16"), target="simulate")
    assert "mma.m16n8k16.f16.f16.f16.f16" in kernel.source and "cast(sums" not in kernel.source
    rng = np.random.default_rng(0)
    for a, b, steps in (
        (rng.integers(-4, 5, (64, 96)), rng.integers(-4, 5, (96, 64)), 0),
        (rng.standard_normal((64, 96)), rng.standard_normal((96, 64)), 96 // 16 + 1),
    ):
        a, b, c = a.astype(np.float16), b.astype(np.float16), np.zeros((64, 64), np.float16)
        kernel(a, b, c)
        exact = a.astype(np.float64) @ b.astype(np.float64)
        largest = (abs(a.astype(np.float64)) @ abs(b.astype(np.float64))).max()
        assert abs(c - exact).max() <= steps * 2.0**-11 * largest


def test_float32_products_go_through_tf32_where_the_caller_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    program = with_accumulator("float32", "float32")
    exact_kernel = tilewright.compile(program, target="simulate")
    kernel = tilewright.compile(program, target="simulate", pass_configs={tilewright.PassConfigKey.TL_FLOAT32_AS_TF32: True})
    assert "mma" not in exact_kernel.source and "mma.m16n8k8.f32.tf32.tf32.f32" in kernel.source
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((64, 96)).astype(np.float32), rng.standard_normal((96, 64)).astype(np.float32)
    exact, c, rounded = a.astype(np.float64) @ b, np.zeros((64, 64), np.float32), np.zeros((64, 64), np.float32)
    exact_kernel(a, b, c)
    np.testing.assert_allclose(c, exact, rtol=1e-5, atol=1e-5)
    kernel(a, b, rounded)
    np.testing.assert_allclose(rounded, nearest_tf32(a).astype(np.float64) @ nearest_tf32(b).astype(np.float64), rtol=1e-5, atol=1e-5)
    assert abs(rounded - exact).max() > 1e-4  # so it was rounded
    # The reference beside a call knows of it too.
    monkeypatch.setenv("TILEWRIGHT_CHECK", "1")
    tilewright.compile(program, target="simulate", pass_configs={"tl.float32_as_tf32": True})(a, b, rounded)


def test_a_program_can_allow_tf32_itself() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((32, 32), "float32"), C: T.Tensor((32, 32), "float32")):
        T.annotate_pass_configs({tilewright.PassConfigKey.TL_FLOAT32_AS_TF32: True})
        with T.Kernel(1, threads=32):
            a, c = T.alloc_shared((32, 32), "float32"), T.alloc_fragment((32, 32), "float32")
            T.copy(A, a)
            T.gemm(a, a, c, transpose_B=True, clear_accum=True)
            T.copy(c, C)

    assert "tf32" in tilewright.compile(kernel, target="simulate").source
    assert "tf32" not in tilewright.compile(kernel, target="simulate", pass_configs={"tl.float32_as_tf32": False}).source
    if is_nvrtc_installed():
        assert "tf32" in tilewright.compile(kernel, target="sm_80").ptx


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
