"""Names of threads, warps and barriers: what they make, and what is said of mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused, run
from tilewright.errors import Kind
from tilewright.ir.stmt import Barrier
from tilewright.ir.visit import statements


def traced(body: Any) -> Any:
    trace = T.macro(body)

    @T.prim_func
    def kernel(A: T.Tensor((64,), "float32")):
        with T.Kernel(1, threads=64):
            tx = T.get_thread_binding(0)
            trace(tx, A)

    return kernel.program.launches[0]


def test_where_a_thread_is() -> None:
    @T.prim_func
    def kernel(Y: T.Tensor((2, 5, 40, 8), "int32")):
        with T.Kernel(1, threads=(40, 5, 2)):
            tx, ty, tz = T.get_thread_bindings()
            Y[tz, ty, tx, 0] = T.get_lane_idx()
            Y[tz, ty, tx, 1] = T.get_warp_idx()
            Y[tz, ty, tx, 2] = T.get_warp_idx_sync(16)
            Y[tz, ty, tx, 3] = T.get_warp_group_idx()
            Y[tz, ty, tx, 4] = T.get_warp_group_idx(32, 2)
            Y[tz, ty, tx, 5] = T.cast(T.shuffle_elect(0), "int32")
            Y[tz, ty, tx, 6] = T.cast(T.shuffle_elect(128), "int32")
            Y[tz, ty, tx, 7] = T.get_thread_extent(0) * 100 + T.get_thread_extents()[2]

    flat = np.arange(400)
    expected = [flat % 32, flat // 32, flat // 16, flat // 128, flat // 64, flat == 0, flat % 128 == 0, 0 * flat + 4002]
    found = run(kernel, Y=np.zeros((2, 5, 40, 8), np.int32))["Y"]
    np.testing.assert_array_equal(found.reshape(400, 8), np.stack(expected, 1))


def test_barriers_keep_their_scope_name_and_count() -> None:
    def body(tx, A):
        T.sync_threads()
        T.sync_threads(3, 64)
        T.sync_warp()
        T.tvm_storage_sync("shared")
        T.tvm_storage_sync("warp")
        T.pdl_trigger()
        T.pdl_sync()

    made = [(s.scope.value, s.barrier_id, s.num_threads) for s in statements(traced(body).body) if isinstance(s, Barrier)]
    assert made == [("block", 0, None), ("block", 3, 64), ("warp", 0, None), ("block", 0, None), ("warp", 0, None)]


@pytest.mark.parametrize(
    ("kind", "text", "make"),
    [
        (Kind.BARRIER_THREADS, "16", lambda tx, A: T.sync_threads(16, 64)),
        (Kind.BARRIER_THREADS, "tx", lambda tx, A: T.sync_threads(tx, 64)),
        (Kind.BARRIER_THREADS, "96", lambda tx, A: T.sync_threads(1, 96)),
        (Kind.SCOPE, "local", lambda tx, A: T.tvm_storage_sync("local")),
        (Kind.OPERAND, "width", lambda tx, A: T.shfl_xor(tx, 1, 3)),
        (Kind.OPERAND, "lane", lambda tx, A: T.shfl_sync(tx, 1.5)),
        (Kind.OPERAND, "mask", lambda tx, A: T.any_sync(tx > 0, 0.5)),
        (Kind.OPERAND, "float32x4", lambda tx, A: T.shfl_up(T.Cast("float32x4", A[tx]), 1)),
        (Kind.REDUCE_DTYPE, "float32", lambda tx, A: T.warp_reduce_bitor(A[tx])),
        (Kind.REDUCE_DTYPE, "bool", lambda tx, A: T.warp_reduce_sum(A[tx] > 0)),
        (Kind.OPTION_VALUE, "warp_size", lambda tx, A: T.get_lane_idx(0)),
    ],
)
def test_mistakes_are_told(kind: Kind, text: str, make: Any) -> None:
    def body(tx, A):
        make(tx, A)

    with refused(kind, text):
        traced(body)


def test_an_iteration_of_a_parallel_loop_is_on_no_thread() -> None:
    def body(tx, A):
        for i in T.Parallel(64):
            A[i] = T.warp_reduce_sum(A[i])

    with refused(Kind.THREAD_IN_PARALLEL, "T.warp_reduce_sum"):
        traced(body)


def test_a_previous_value_makes_a_launch_one_of_threads() -> None:
    @T.prim_func
    def kernel(N: T.Tensor((1,), "int32"), Y: T.Tensor((64,), "int32")):
        with T.Kernel(1, threads=64):
            ticket = T.atomic_add(N[0], 1, return_prev=True)
            Y[ticket] = ticket

    assert kernel.program.launches[0].is_thread_level
    found = run(kernel, N=np.zeros(1, np.int32), Y=np.zeros(64, np.int32))
    assert found["N"][0] == 64 and found["Y"].tolist() == list(range(64))


def test_threads_that_exchange_in_pairs_sort() -> None:
    """A bitonic sort: which two elements a thread owns depends on the turn, so each turn is looked at by itself."""

    @T.prim_func
    def kernel(A: T.Tensor((64,), "int32"), B: T.Tensor((64,), "int32")):
        with T.Kernel(1, threads=64):
            tx = T.get_thread_binding()
            s = T.alloc_shared((64,), "int32")
            s[tx] = A[tx]
            for phase in T.serial(1, 7):
                for step in T.serial(phase):
                    partner = tx ^ (1 << (phase - 1 - step))
                    if partner > tx:
                        a, b = s[tx], s[partner]
                        if (a > b) == ((tx & (1 << phase)) == 0):
                            s[tx], s[partner] = b, a
            B[tx] = s[tx]

    a = np.random.default_rng(0).integers(-99, 99, 64).astype(np.int32)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(64, np.int32))["B"], np.sort(a))
    report = tilewright.compile(kernel, target="simulate").simulate(a, np.zeros(64, np.int32))
    assert not report.findings
    np.testing.assert_array_equal(report.outputs["B"], np.sort(a))
