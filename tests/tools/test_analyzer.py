"""Operations and bytes of programs whose counts are known, and the time that they take at least."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.target.machine import machine_of
from tilewright.target.nvidia import SM_80, SM_90
from tilewright.tools import Analyzer


def product(m: int, n: int, k: int, dtype: str = "float16") -> Any:
    @T.prim_func
    def main(A: T.Tensor((m, k), dtype), B: T.Tensor((k, n), dtype), C: T.Tensor((m, n), "float32")):
        with T.Kernel(T.ceildiv(n, 64), T.ceildiv(m, 64), threads=128) as (bx, by):
            a, b = T.alloc_shared((64, 32), dtype), T.alloc_shared((32, 64), dtype)
            c = T.alloc_fragment((64, 64), "float32")
            T.clear(c)
            for step in T.Pipelined(T.ceildiv(k, 32), num_stages=2):
                T.copy(A[by * 64, step * 32], a)
                T.copy(B[step * 32, bx * 64], b)
                T.gemm(a, b, c)
            T.copy(c, C[by * 64, bx * 64])

    return main


def test_a_product() -> None:
    found = Analyzer.analysis(product(256, 128, 96), "sm_80")
    assert found.total_flops == 2 * 256 * 128 * 96
    assert found.total_global_bytes == 2 * 256 * 96 * 2 + 2 * 96 * 128 * 4 + 256 * 128 * 4  # A once per column of blocks, B once per row of them
    machine = machine_of(SM_80)
    tensors_bytes = 256 * 96 * 2 + 96 * 128 * 2 + 256 * 128 * 4
    assert found.estimated_time == pytest.approx(tensors_bytes / machine.bandwidth_bytes_per_s)
    assert found.expected_bandwidth_GBps == pytest.approx(machine.bandwidth_bytes_per_s / 1e9) and found.is_exact


def test_a_large_product_is_bound_by_operations() -> None:
    found = Analyzer.analysis(product(8192, 8192, 8192), {"kind": "cuda", "arch": "sm_90"})
    assert found.expected_tflops == pytest.approx(machine_of(SM_90).peak_flops(T.float16, is_product=True) / 1e12)
    assert found.expected_tflops < Analyzer.analysis(product(8192, 8192, 8192, "float8_e4m3fn"), "sm_90").expected_tflops


def test_edges_are_clipped_and_a_kernel_counts_as_its_program() -> None:
    ragged = product(70, 64, 32)
    assert Analyzer.analysis(ragged).total_global_bytes == 70 * 32 * 2 + 2 * 32 * 64 * 2 + 70 * 64 * 4
    assert Analyzer.analysis(tilewright.compile(ragged)) == Analyzer.analysis(ragged)


def test_blocks_that_differ_are_averaged() -> None:
    @T.prim_func
    def triangle(A: T.Tensor((32, 32), "float32"), B: T.Tensor((32,), "float32")):
        with T.Kernel(32, threads=32) as row:
            total = T.alloc_var("float32", init=0.0)
            for column in T.serial(row + 1):
                total += A[row, column]
            B[row] = total

    found = Analyzer.analysis(triangle)
    assert found.total_flops == 32 * 33 // 2 and found.total_global_bytes == 4 * (32 * 33 // 2 + 32) and found.is_exact


def test_operations_in_loops_reductions_and_atomics() -> None:
    @T.prim_func
    def mixed(A: T.Tensor((64, 32), "float32"), B: T.Tensor((64,), "float32"), C: T.Tensor((1,), "float32")):
        with T.Kernel(2, threads=64) as bx:
            a, sums = T.alloc_fragment((32, 32), "float32"), T.alloc_fragment((32,), "float32")
            T.copy(A[bx * 32, 0], a)
            for i, j in T.Parallel(32, 32):
                a[i, j] = T.exp(a[i, j]) * 2.0
            T.reduce_sum(a, sums, dim=1)
            T.copy(sums, B[bx * 32])
            if bx == 0:
                T.atomic_add(C[0], 1.0)

    found = Analyzer.analysis(mixed)
    assert found.total_flops == 64 * 32 * 2 + 64 * 32 + 1
    assert found.total_global_bytes == 4 * (64 * 32 + 64 + 2)


def test_lengths_that_memory_knows_are_one() -> None:
    @T.prim_func
    def ragged(N: T.Tensor((4,), "int32"), A: T.Tensor((4, 64), "float32")):
        with T.Kernel(4) as row:
            for i in T.serial(N[row]):
                A[row, i] = 1.0

    found = Analyzer.analysis(ragged)
    assert not found.is_exact and found.total_global_bytes >= 4 * 4


def test_mistakes() -> None:
    n = T.dynamic("n")

    @T.prim_func
    def dynamic(A: T.Tensor((n,), "float32")):
        with T.Kernel(T.ceildiv(n, 64)) as bx:
            A[bx * 64] = 0.0

    with refused(Kind.UNBOUND_SYMBOL, "the grid of dynamic depends on a size"):
        Analyzer.analysis(dynamic)
    with refused(Kind.NOT_A_PRIM_FUNC, "Analyzer.analysis was given"):
        Analyzer.analysis(product)
    with refused(Kind.TARGET_NAME):
        Analyzer.analysis(product(64, 64, 64), "tpu")
