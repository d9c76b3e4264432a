"""Thread-level programs compiled for the CPU, against the reference and against numpy."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import call, run
from tilewright.ir.stmt import Barrier, ParallelFor, While
from tilewright.ir.visit import statements
from tilewright.language.function import PrimFunc
from tilewright.passes import run_passes
from tilewright.passes.check_program import check_program
from tilewright.passes.context import PassContext
from tilewright.passes.insert_barriers import insert_barriers
from tilewright.passes.loop_over_threads import loop_over_threads
from tilewright.passes.lower_thread_ops import lower_thread_ops
from tilewright.reference.interpreter import run_reference
from tilewright.target.cpu import host_target

RNG = np.random.default_rng(11)
INT = np.iinfo(np.int32)


def integers(*shape: int, low: int = -9, high: int = 10, dtype: str = "int32") -> np.ndarray:
    return RNG.integers(low, high, shape).astype(dtype)


def lowered(function: PrimFunc) -> list[object]:
    passes = (check_program, lower_thread_ops, insert_barriers, loop_over_threads)
    launch = run_passes(function.program, PassContext(host_target()), passes).launches[0]
    assert not launch.is_thread_level
    return list(statements(launch.body))


@pytest.mark.parametrize("threads", [32, 48, 100, 256])
def test_a_block_reduces_in_shared_memory(threads: int) -> None:
    @T.prim_func
    def kernel(X: T.Tensor((3, 500), "int32"), Y: T.Tensor((3,), "int32")):
        with T.Kernel(3, threads=threads) as b:
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((threads,), "int32")
            mine = T.alloc_local((1,), "int32")
            T.clear(mine)
            for k in T.serial(T.ceildiv(500, threads)):
                if k * threads + tx < 500:
                    mine[0] += X[b, k * threads + tx]
            s[tx] = mine[0]
            width = T.alloc_var("int32", init=threads)
            while width > 1:
                T.sync_threads()
                half = (width + 1) // 2
                if tx < width - half:
                    s[tx] += s[tx + half]
                width = half
            T.sync_threads()
            if tx == threads - 1:
                Y[b] = s[0]

    x = integers(3, 500)
    assert run(kernel, X=x, Y=np.zeros(3, np.int32))["Y"].tolist() == x.sum(1).tolist()


def test_barriers_may_stand_in_loops_that_all_threads_take() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((64,), "int32"), N: T.Tensor((1,), "int32"), Y: T.Tensor((64,), "int32")):
        with T.Kernel(1, threads=64):
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((64,), "int32")
            s[tx] = X[tx]
            for k in T.serial(N[0]):
                T.sync_threads()
                other = s[(tx + k + 1) % 64]
                T.sync_threads()
                if k % 2 == 0:
                    T.sync_threads()
                    s[tx] += other
            Y[tx] = s[tx]

    x = integers(64)
    expected = x.copy()
    for k in range(0, 5, 2):
        expected = expected + np.roll(expected, -(k + 1))
    found = run(kernel, X=x, N=np.array([5], np.int32), Y=np.zeros(64, np.int32))["Y"]
    assert found.tolist() == expected.tolist()
    assert not any(isinstance(s, Barrier) for s in lowered(kernel))


def test_threads_leave_a_loop_with_exchanges_at_different_turns() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((96,), "int32"), Y: T.Tensor((96,), "int32")):
        with T.Kernel(1, threads=96):
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((96,), "int32")
            left = T.alloc_var("int32", init=X[tx])
            y = T.alloc_var("int32", init=0)
            s[tx] = 0
            while left > 0:
                s[(tx + 1) % 96] = left + tx
                y += s[tx]
                if y > 200:
                    break
                if y % 3 == 1:
                    left -= 2
                    continue
                left -= 1
                for k in T.serial(left):
                    if k == 2:
                        continue
                    s[95 - tx] = k
                    y += s[tx]
            Y[tx] = y

    y = run(kernel, X=integers(96, low=0), Y=np.zeros(96, np.int32))["Y"]
    assert len(set(y.tolist())) > 10  # threads did go different ways; the reference agrees on each
    assert sum(isinstance(s, While) for s in lowered(kernel)) == 1


def test_counted_loops_of_different_length_with_a_break() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((64,), "int32"), Y: T.Tensor((64,), "int32")):
        with T.Kernel(1, threads=64):
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((64,), "int32")
            s[tx] = tx
            y = T.alloc_var("int32", init=0)
            for k in T.serial(X[tx]):
                y += s[(tx + 1) % 64]
                s[tx] += k
                if y > 150:
                    break
                y += 1
            Y[tx] = y

    run(kernel, X=integers(64, low=-2), Y=np.zeros(64, np.int32))


@pytest.mark.parametrize("threads", [(16, 4), (8, 3, 5), (1, 7), (40, 1, 2)])
def test_blocks_of_two_and_three_dimensions_transpose(threads: tuple[int, ...]) -> None:
    nx, ny, nz = (*threads, 1, 1)[:3]
    rows = ny * nz

    @T.prim_func
    def kernel(X: T.Tensor((rows * 2 + 1, nx + 3), "float16"), Y: T.Tensor((nx + 3, rows * 2 + 1), "float16")):
        with T.Kernel(T.ceildiv(nx + 3, nx), T.ceildiv(rows * 2 + 1, rows), threads=threads) as (bx, by):
            tx, ty, tz = T.get_thread_bindings()
            s = T.alloc_shared((rows, nx + 1), "float16")
            row = tz * ny + ty
            s[row, tx] = X[by * rows + row, bx * nx + tx]
            flat = row * nx + tx
            Y[bx * nx + flat // rows, by * rows + flat % rows] = s[flat % rows, flat // rows]

    x = RNG.standard_normal((rows * 2 + 1, nx + 3)).astype(np.float16)
    y = run(kernel, X=x, Y=np.zeros(x.shape[::-1], np.float16))["Y"]
    np.testing.assert_array_equal(y, x.T)


def test_a_histogram_counts_with_atomics() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((1000,), "int32"), H: T.Tensor((16,), "int32"), Place: T.Tensor((1000,), "int32")):
        with T.Kernel(4, threads=96) as b:
            tx = T.get_thread_binding(0)
            h = T.alloc_shared((16,), "int32")
            if tx < 16:
                h[tx] = 0
            for k in T.serial(T.ceildiv(250, 96)):
                i = k * 96 + tx
                if i < 250:
                    before = T.atomic_add(h[X[b * 250 + i]], 1, return_prev=True)
                    Place[b * 250 + i] = before
            if tx < 16:
                T.atomic_add(H[tx], h[tx])

    x = integers(1000, low=0, high=16)
    arguments = {"X": x, "H": np.zeros(16, np.int32), "Place": np.zeros(1000, np.int32)}
    found = call(tilewright.compile(kernel), kernel.program, arguments)  # the order of atomics is free, so the reference gives other numbers
    assert found["H"].tolist() == run_reference(kernel.program, arguments)["H"].tolist()
    assert found["H"].tolist() == np.bincount(x, minlength=16).tolist()
    for value in range(16):  # each thread got a number of its own
        assert sorted(found["Place"][:250][x[:250] == value].tolist()) == list(range((x[:250] == value).sum()))


def test_products_and_thread_code_share_tiles() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((64, 64), "float16"), B: T.Tensor((64, 64), "float16"), R: T.Tensor((64,), "float32"), C: T.Tensor((64, 64), "float32")):
        with T.Kernel(1, threads=128):
            tx = T.get_thread_binding(0)
            a, b = T.alloc_shared((64, 32), "float16"), T.alloc_shared((32, 64), "float16")
            c, out = T.alloc_fragment((64, 64), "float32"), T.alloc_shared((64, 64), "float32")
            T.clear(c)
            for k in T.Pipelined(2, num_stages=2):
                T.copy(A[0, k * 32], a)
                T.copy(B[k * 32, 0], b)
                T.gemm(a, b, c)
            T.copy(c, out)
            total = T.alloc_local((1,), "float32")
            T.clear(total)
            if tx < 64:
                for j in T.serial(64):
                    total[0] += out[tx, j]
                R[tx] = total[0]
            for j in T.serial(32):
                out[j * 2 + tx // 64, tx % 64] *= 2
            T.copy(out, C)

    a, b = integers(64, 64, low=-3, high=4, dtype="float16"), integers(64, 64, low=-3, high=4, dtype="float16")
    found = run(kernel, A=a, B=b, R=np.zeros(64, np.float32), C=np.zeros((64, 64), np.float32))
    product = a.astype(np.float32) @ b.astype(np.float32)
    np.testing.assert_array_equal(found["C"], 2 * product)
    np.testing.assert_array_equal(found["R"], product.sum(1))


def test_a_matrix_times_a_vector_reduces_over_one_axis_of_the_block() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((200,), "float32"), B: T.Tensor((30, 200), "float32"), C: T.Tensor((30,), "float32")):
        with T.Kernel(T.ceildiv(30, 4), threads=(32, 4)) as bn:
            tk, tn = T.get_thread_binding(0), T.get_thread_binding(1)
            part, total = T.alloc_local((1,), "float32"), T.alloc_local((1,), "float32")
            T.clear(part)
            for k in T.serial(T.ceildiv(200, 32)):
                part[0] += A[k * 32 + tk] * B[bn * 4 + tn, k * 32 + tk]
            with T.attr(T.comm_reducer(lambda x, y: x + y, [T.cast(0, "float32")]), "reduce_scope", T.reinterpret(T.uint64(0), dtype="handle")):
                T.evaluate(T.tvm_thread_allreduce(T.uint32(1), part[0], True, total[0], tk, dtype="handle"))
            if tk == 0:
                C[bn * 4 + tn] = total[0]

    a, b = integers(200, dtype="float32"), integers(30, 200, dtype="float32")
    np.testing.assert_array_equal(run(kernel, A=a, B=b, C=np.zeros(30, np.float32))["C"], b @ a)


def test_memory_of_a_thread_keeps_views_bytes_and_vectors() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((64, 4), "float32"), Q: T.Tensor((64, 2), "int4"), Y: T.Tensor((64, 4), "int32"), Z: T.Tensor((64, 2), "int4")):
        with T.Kernel(1, threads=64):
            tx = T.get_thread_binding(0)
            mine = T.alloc_local((4,), "float32")
            bits = T.view(mine, (2, 2), dtype="int32")
            small = T.alloc_local((2,), "int4")
            T.copy(X[tx, 0:4], mine)
            for k in T.serial(2):
                small[k] = Q[tx, k]
            T.sync_threads()
            for k in T.serial(4):
                Y[tx, k] = bits[k // 2, k % 2]
            for k in T.serial(2):
                Z[tx, k] = small[1 - k]

    x = RNG.standard_normal((64, 4)).astype(np.float32)
    q = RNG.integers(-128, 128, (64, 1)).astype(np.int8)
    found = run(kernel, X=x, Q=q, Y=np.zeros((64, 4), np.int32), Z=np.zeros((64, 1), np.int8))
    np.testing.assert_array_equal(found["Y"], x.view(np.int32))
    np.testing.assert_array_equal(found["Z"].view(np.uint8), (q.view(np.uint8) >> 4) | (q.view(np.uint8) << 4).astype(np.uint8))


def test_a_value_of_the_whole_block_steers_it() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((64,), "int32"), Y: T.Tensor((64,), "int32")):
        with T.Kernel(1, threads=64):
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((64,), "int32")
            rounds = T.alloc_var("int32", init=0)
            s[tx] = X[tx]
            while s[0] > 0:
                T.sync_threads()
                if tx == 0:
                    s[0] -= 3
                rounds += 1
                tile = T.alloc_fragment((64,), "int32")
                T.copy(s, tile)
                for i in T.Parallel(64):
                    tile[i] = tile[i] + rounds
                T.copy(tile[1:64], s[1:64])
            Y[tx] = s[tx] * 100 + rounds

    x = integers(64)
    x[0] = 14
    expected = (x + 15) * 100 + 5
    expected[0] = -100 + 5
    assert run(kernel, X=x, Y=np.zeros(64, np.int32))["Y"].tolist() == expected.tolist()


def test_code_without_meetings_is_one_loop() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((1000,), "float32"), Y: T.Tensor((1000,), "float32")):
        with T.Kernel(4, threads=256) as b:
            i = b * 256 + T.get_thread_binding(0)
            scale = T.alloc_local((1,), "float32")
            scale[0] = X[i]
            if i < 990:
                scale[0] *= 2
            Y[i] = scale[0]

    made = lowered(kernel)
    assert sum(isinstance(s, ParallelFor) for s in made) == 1
    x = integers(1000, dtype="float32")
    np.testing.assert_array_equal(run(kernel, X=x, Y=np.zeros(1000, np.float32))["Y"], np.where(np.arange(1000) < 990, 2 * x, x))


def test_a_barrier_needs_no_thread_code() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((64,), "float32"), Y: T.Tensor((64,), "float32")):
        with T.Kernel(1, threads=64):
            s = T.alloc_shared((64,), "float32")
            T.copy(X, s)
            T.sync_threads()
            for i in T.Parallel(64):
                Y[i] = s[63 - i]

    x = integers(64, dtype="float32")
    np.testing.assert_array_equal(run(kernel, X=x, Y=np.zeros(64, np.float32))["Y"], x[::-1])


def test_a_thread_prints_its_own_memory(capfd: pytest.CaptureFixture[str]) -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((2,), "int32")):
        with T.Kernel(1, threads=2):
            tx = T.get_thread_binding(0)
            mine = T.alloc_local((2,), "int32")
            mine[0], mine[1] = tx, 7
            T.sync_threads()
            T.print(mine)
            Y[tx] = mine[0]

    tilewright.compile(kernel)(np.zeros(2, np.int32))
    out = capfd.readouterr().out
    assert "[0 7]" in out.replace(", ", " ") and "[1 7]" in out.replace(", ", " "), out
