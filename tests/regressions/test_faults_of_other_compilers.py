"""Programs that other tile compilers got wrong, crashed on, hung on or accepted: written anew from descriptions, named by behaviour.

Sizes one off a multiple, loops of one trip, offsets that are not zero, narrow dtypes. Each runs by the reference, on the CPU, and as GPU code in the
simulator, which must find nothing. What needs threads or barriers of its own stands with those.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests import execution
from tests.execution import Arrays, assert_same, copied, integers, refused
from tilewright.errors import Kind
from tilewright.language.function import PrimFunc


def run(kernel: PrimFunc, **arguments: Any) -> Arrays:
    """Every tensor after a compiled run, once it agrees with the reference and with the GPU code."""
    found = execution.run(kernel, **arguments)
    report = tilewright.compile(kernel, target="simulate").simulate(*copied(arguments).values())
    assert not report.findings, report.render()
    for name, array in report.outputs.items():
        assert_same(array, found[name], what=f"{name}, simulated against compiled")
    return found


def product(m: int, n: int, k: int, block: tuple[int, int, int], threads: int, dtype: str = "float16", stages: int = 2) -> Any:
    block_m, block_n, block_k = block

    @T.prim_func
    def main(A: T.Tensor((m, k), dtype), B: T.Tensor((k, n), dtype), C: T.Tensor((m, n), "float32")):
        with T.Kernel(T.ceildiv(n, block_n), T.ceildiv(m, block_m), threads=threads) as (bx, by):
            left, right = T.alloc_shared((block_m, block_k), dtype), T.alloc_shared((block_k, block_n), dtype)
            sums = T.alloc_fragment((block_m, block_n), "float32")
            T.clear(sums)
            for step in T.Pipelined(T.ceildiv(k, block_k), num_stages=stages):
                T.copy(A[by * block_m, step * block_k], left)
                T.copy(B[step * block_k, bx * block_n], right)
                T.gemm(left, right, sums)
            T.copy(sums, C[by * block_m, bx * block_n])

    return main


@pytest.mark.parametrize(
    ("m", "n", "k", "block", "threads"),
    [
        (16, 104, 32, (16, 104, 32), 384),  # columns that do not divide among the warps: the last ones were never written
        (64, 64, 48, (64, 64, 24), 128),  # a depth that is no multiple of the instruction's: its tail was dropped
        (64, 64, 41, (64, 64, 32), 128),
        (17, 33, 16, (16, 32, 16), 32),
        (16, 8, 16, (16, 8, 16), 96),
        (48, 96, 40, (48, 96, 40), 160),
    ],
)
def test_products_of_odd_shapes_are_complete(m: int, n: int, k: int, block: tuple[int, int, int], threads: int) -> None:
    a, b = integers((m, k), np.float16), integers((k, n), np.float16, seed=1)
    found = run(product(m, n, k, block, threads), A=a, B=b, C=np.full((m, n), np.nan, np.float32))["C"]
    np.testing.assert_array_equal(found, a.astype(np.float32) @ b.astype(np.float32))


@pytest.mark.parametrize("stages", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("trips", [0, 1, 2])
def test_pipelines_with_fewer_trips_than_stages_end(trips: int, stages: int) -> None:
    k = 16 * trips

    @T.prim_func
    def main(A: T.Tensor((16, T.dynamic("k")), "float32"), C: T.Tensor((16,), "float32")):
        with T.Kernel(1, threads=128):
            tile, total, part = T.alloc_shared((16, 16), "float32"), T.alloc_fragment((16,), "float32"), T.alloc_fragment((16,), "float32")
            T.clear(total)
            for step in T.Pipelined(T.ceildiv(A.shape[1], 16), num_stages=stages):
                T.copy(A[0, step * 16], tile)
                T.reduce_sum(tile, part, dim=1)
                for i in T.Parallel(16):
                    total[i] += part[i]
            T.copy(total, C)

    a = integers((16, k))
    np.testing.assert_array_equal(run(main, A=a, C=np.ones(16, np.float32))["C"], a.sum(1))


@pytest.mark.parametrize("blocks", [1, 7, 8, 9, 13])
@pytest.mark.parametrize("group", [1, 3, 8])
def test_persistent_loops_skip_no_tile(blocks: int, group: int) -> None:
    @T.prim_func
    def main(A: T.Tensor((5, 11), "int32")):
        with T.Kernel(blocks, threads=32) as block:
            for m, n in T.Persistent([5, 11], blocks, block, group_size=group):
                for i in T.Parallel(1):
                    A[m, n + i] += 1

    assert (run(main, A=np.zeros((5, 11), np.int32))["A"] == 1).all()


@pytest.mark.parametrize("width", [192, 229, 1, 127, 129])
@pytest.mark.parametrize("threads", [32, 96, 128])
def test_fragments_of_any_width_have_a_layout(width: int, threads: int) -> None:
    @T.prim_func
    def main(A: T.Tensor((3, width), "float32"), B: T.Tensor((3, width), "float32"), S: T.Tensor((3,), "float32")):
        with T.Kernel(1, threads=threads):
            tile, total = T.alloc_fragment((3, width), "float32"), T.alloc_fragment((3,), "float32")
            T.copy(A, tile)
            T.reduce_sum(tile, total, dim=1)
            for i, j in T.Parallel(3, width):
                tile[i, j] = tile[i, j] * total[i]
            T.copy(tile, B)
            T.copy(total, S)

    a = integers((3, width))
    found = run(main, A=a, B=np.zeros_like(a), S=np.zeros(3, np.float32))
    np.testing.assert_array_equal(found["B"], a * a.sum(1, keepdims=True))


def test_a_value_written_before_a_loop_of_one_trip_is_seen_in_it() -> None:
    """A barrier between a store and the loads of a loop was planned, and lost where the loop had one trip."""

    @T.prim_func
    def main(A: T.Tensor((128,), "int32"), B: T.Tensor((128,), "int32")):
        with T.Kernel(1, threads=128):
            tile = T.alloc_shared((128,), "int32")
            for step in T.serial(1):
                for i in T.Parallel(128):
                    tile[i] = A[i] + step
                for i in T.Parallel(128):
                    B[i] = tile[127 - i]
                for i in T.Parallel(128):
                    tile[i] = 0

    a = np.arange(128, dtype=np.int32)
    np.testing.assert_array_equal(run(main, A=a, B=np.zeros(128, np.int32))["B"], a[::-1])


@pytest.mark.parametrize("threads", [-1, 0])
def test_a_launch_without_threads_is_refused(threads: int) -> None:
    with refused(Kind.THREADS, str(threads)):
        product(16, 16, 16, (16, 16, 16), threads)


def test_a_fill_past_the_end_of_a_tile_is_refused() -> None:
    with refused(Kind.REGION_RANGE, "6:12", "8 elements"):

        @T.prim_func
        def main(A: T.Tensor((8,), "float32")):
            with T.Kernel(1):
                tile = T.alloc_shared((8,), "float32")
                T.fill(tile[6:12], 1.0)
                T.copy(tile, A)


def test_a_copy_from_an_offset_clips_at_the_end_of_the_tensor() -> None:
    @T.prim_func
    def main(A: T.Tensor((10,), "int32"), B: T.Tensor((8,), "int32")):
        with T.Kernel(1, threads=32):
            tile = T.alloc_shared((12,), "int32")
            T.fill(tile, 7)
            T.copy(A[5:13], tile[3:11])
            T.copy(tile[3:11], B)

    a = np.arange(10, dtype=np.int32)
    np.testing.assert_array_equal(run(main, A=a, B=np.zeros(8, np.int32))["B"], [5, 6, 7, 8, 9, 0, 0, 0])


@pytest.mark.parametrize("dtype", ["float8_e5m2", "float16", "bfloat16", "float32", "float64"])
def test_infinity_exists_where_the_dtype_has_it(dtype: str) -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), dtype)):
        with T.Kernel(1):
            for i in T.Parallel(4):
                A[i] = T.if_then_else(i < 2, T.infinity(dtype), -T.infinity(dtype))

    found = run(main, A=np.zeros(4, getattr(ml_dtypes, dtype, None) or dtype))["A"].astype(np.float64)
    np.testing.assert_array_equal(found, [np.inf, np.inf, -np.inf, -np.inf])


def test_infinity_of_a_dtype_without_one_is_refused() -> None:
    with refused(Kind.VALUE_RANGE, "float8_e4m3fn"):
        T.infinity("float8_e4m3fn")


@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_vectors_of_four_bit_integers(lanes: int) -> None:
    @T.prim_func
    def main(A: T.Tensor((16,), f"int4x{lanes}"), B: T.Tensor((16,), f"int32x{lanes}")):
        with T.Kernel(1):
            for i in T.Parallel(16):
                B[i] = A[i].astype(f"int32x{lanes}") * 3

    packed = integers((16, lanes // 2), np.uint8, 0, 256)
    nibbles = np.stack([packed & 15, packed >> 4], -1).reshape(16, lanes).astype(np.int32)
    found = run(main, A=packed, B=np.zeros((16, lanes), np.int32))["B"]
    np.testing.assert_array_equal(found, (nibbles - 16 * (nibbles > 7)) * 3)


def test_vectors_lie_wherever_a_lane_may() -> None:
    """Frameworks align new memory for scalars, not for the widest vector."""

    @T.prim_func
    def main(A: T.Tensor((4,), "int32x8"), B: T.Tensor((4,), "int32x8")):
        with T.Kernel(1):
            for i in T.Parallel(4):
                B[i] = A[i] * 3

    memory = np.zeros(2 * 32 + 2, np.int32)
    first = -(memory.ctypes.data // 4) % 8 + 1  # one lane past a multiple of 32 bytes
    given, found = integers((4, 8), np.int32, 0, 99), memory[first : first + 32].reshape(4, 8)
    tilewright.compile(main)(given, found)
    np.testing.assert_array_equal(found, given * 3)


def test_a_plain_assert_inside_a_kernel_stops_it() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "int32"), n: T.int32):
        with T.Kernel(1):
            assert n > 0, "n counts elements"
            A[0] = n

    kernel = tilewright.compile(main)
    a = np.zeros(4, np.int32)
    kernel(a, 3)
    assert a[0] == 3
    with refused(Kind.DEVICE_ASSERT, "n counts elements"):
        kernel(a, 0)


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 1000])
def test_sizes_of_the_run_from_one_element_on(n: int) -> None:
    @T.prim_func
    def main(A: T.Tensor((T.dynamic("n"),), "float32"), B: T.Tensor((1,), "float32")):
        with T.Kernel(1, threads=128):
            tile, total, part = T.alloc_shared((128,), "float32"), T.alloc_fragment((1,), "float32"), T.alloc_fragment((1,), "float32")
            T.clear(total)
            for step in T.serial(T.ceildiv(A.shape[0], 128)):
                T.copy(A[step * 128], tile)
                T.reduce_sum(tile, part, dim=0)
                total[0] += part[0]
            B[0] = total[0]

    a = integers(n)
    assert run(main, A=a, B=np.zeros(1, np.float32))["B"][0] == a.sum()


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        (Kind.GEMM_K_MISMATCH, lambda a, b, c: T.gemm(a, b, c, transpose_B=True)),
        (Kind.REDUCE_AXIS, lambda a, b, c: T.reduce_sum(a, c, dim=5)),
        (Kind.COPY_SHAPE, lambda a, b, c: T.copy(a, b)),
        (Kind.SCAN_SHAPE, lambda a, b, c: T.cumsum(a, b)),
        (Kind.OPTION_VALUE, lambda a, b, c: T.copy(a, a, eviction_policy="never")),
    ],
)
def test_what_crashed_other_compilers_is_refused_with_a_place(kind: Kind, statement: Any) -> None:
    with refused(kind, "test_faults_of_other_compilers.py:"):

        @T.prim_func
        def main(A: T.Tensor((16, 32), "float16")):
            with T.Kernel(1):
                statement(T.alloc_shared((16, 32), "float16"), T.alloc_shared((32, 16), "float16"), T.alloc_fragment((16, 16), "float32"))
