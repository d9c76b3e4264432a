"""The reference refuses, while it runs, what threads cannot do; what it computes is compared with numpy in the tests of the passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.reference.interpreter import run_reference


def reference(body: Any, threads: Any = 64, **given: Any) -> dict[str, np.ndarray]:
    trace = T.macro(body)

    @T.prim_func
    def kernel(X: T.Tensor((64,), "int32"), Y: T.Tensor((64,), "int32")):
        with T.Kernel(1, threads=threads):
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((64,), "int32")
            trace(tx, s, X, Y)

    return run_reference(kernel.program, {"X": np.arange(64, dtype=np.int32), "Y": np.zeros(64, np.int32), **given})


def test_statements_are_done_by_all_threads_one_after_the_other() -> None:
    def body(tx, s, X, Y):
        s[tx] = X[tx]
        s[tx] = s[(tx + 1) % 64] * 2
        Y[tx] = s[63 - tx]

    expected = (np.roll(np.arange(64), -1) * 2)[::-1]
    assert reference(body)["Y"].tolist() == expected.tolist()


def race(tx, s, X, Y):
    Y[tx // 2] = X[tx]


def some_miss_a_barrier(tx, s, X, Y):
    if X[tx] < 50:
        T.sync_threads()


def some_miss_a_copy(tx, s, X, Y):
    if X[tx] < 50:
        T.copy(X, s)


def some_miss_a_reduction(tx, s, X, Y):
    if X[tx] < 50:
        Y[tx] = T.syncthreads_or(tx > 3)


def wrong_count(tx, s, X, Y):
    if X[tx] < 50:
        T.sync_threads(1, 32)


def differing_extent(tx, s, X, Y):
    n = T.alloc_var("int32", init=X[tx])
    for i in T.Parallel(n):
        s[i] = 1


def differing_memory(tx, s, X, Y):
    own = T.alloc_local((1,), "int32")
    own[0] = X[tx]
    for i in T.Parallel(64):
        s[i] = own[0]


def unknown_lane(tx, s, X, Y):
    if X[tx] < 5:
        x = X[tx] + 1
        Y[tx] = T.shfl_xor(x, 8)


def lane_outside_its_mask(tx, s, X, Y):
    Y[tx] = T.warp_reduce_sum(X[tx]) + T.any_sync(X[tx] > 0, 0xFFFF)


def lane_of_nobody(tx, s, X, Y):
    if X[tx] < 5:
        x = X[tx] + 1
        Y[tx] = T.shfl_sync(x, 7, mask=0x1F)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.THREAD_RACE, race),
        (Kind.DIVERGENT_BARRIER, some_miss_a_barrier),
        (Kind.DIVERGENT_BARRIER, some_miss_a_reduction),
        (Kind.DIVERGENT_OPERATION, some_miss_a_copy),
        (Kind.BARRIER_THREADS, wrong_count),
        (Kind.DIVERGENT_OPERATION, differing_extent),
        (Kind.DIVERGENT_OPERATION, differing_memory),
        (Kind.WARP_MASK, unknown_lane),
        (Kind.WARP_MASK, lane_outside_its_mask),
        (Kind.WARP_MASK, lane_of_nobody),
    ],
)
def test_mistakes_are_found_when_they_happen(kind: Kind, body: Any) -> None:
    with refused(kind):
        reference(body)


def test_what_does_not_happen_is_no_mistake() -> None:
    for body in (some_miss_a_barrier, some_miss_a_copy):
        reference(body, X=np.zeros(64, np.int32))
