"""What not all threads can do together is refused where it stands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.ir.program import Launch
from tilewright.passes.check_threads import active_threads, check_threads


def launch_of(body: Any, threads: int = 64) -> Launch:
    trace = T.macro(body)

    @T.prim_func
    def kernel(A: T.Tensor((64,), "int32"), B: T.Tensor((64, 64), "float16")):
        with T.Kernel(4, threads=threads):
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((64,), "int32")
            trace(tx, s, A, B)

    return kernel.program.launches[0]


def barrier_in_branch(tx, s, A, B):
    if tx < 32:
        T.sync_threads()


def barrier_in_else_of_data(tx, s, A, B):
    if A[tx] > 0:
        s[tx] = 1
    else:
        T.sync_threads()


def barrier_in_own_loop(tx, s, A, B):
    for _ in T.serial(tx):
        T.sync_threads()


def barrier_after_own_break(tx, s, A, B):
    for _ in T.serial(4):
        if A[tx] > 3:
            break
        T.sync_threads()


def barrier_in_own_while(tx, s, A, B):
    n = T.alloc_var("int32", init=tx)
    while n > 0:
        n -= 1
        T.sync_threads()


def reduction_in_branch(tx, s, A, B):
    if tx < 32:
        A[tx] = T.syncthreads_count(tx > 3)


@pytest.mark.parametrize(
    "body", [barrier_in_branch, barrier_in_else_of_data, barrier_in_own_loop, barrier_after_own_break, barrier_in_own_while, reduction_in_branch]
)
def test_barriers_that_some_threads_miss(body: Any) -> None:
    with refused(Kind.DIVERGENT_BARRIER, "tx", "stands in a") if body is not barrier_after_own_break else refused(Kind.DIVERGENT_BARRIER, "leaves it"):
        check_threads(launch_of(body))


def barrier_in_common_branch(tx, s, A, B):
    if A[3] > 0:
        T.sync_threads()
    for _ in T.serial(A[1]):
        if s[0] > 2:
            break
        T.sync_threads()


def warp_barrier_in_branch(tx, s, A, B):
    if tx < 5:
        T.sync_warp()


def named_barrier_of_a_branch(tx, s, A, B):
    if tx < 32:
        T.sync_threads(2, 32)
    T.sync_threads(1, 64)


@pytest.mark.parametrize("body", [barrier_in_common_branch, warp_barrier_in_branch, named_barrier_of_a_branch])
def test_barriers_that_all_who_must_reach(body: Any) -> None:
    check_threads(launch_of(body))


def test_named_barriers_wait_for_as_many_as_come() -> None:
    def too_many(tx, s, A, B):
        if tx < 32:
            T.sync_threads(1, 64)

    def too_few(tx, s, A, B):
        T.sync_threads(1, 32)

    for body in (too_many, too_few):
        with refused(Kind.BARRIER_THREADS, "1"):
            check_threads(launch_of(body))


def copy_in_branch(tx, s, A, B):
    if tx < 32:
        T.copy(A, s)


def parallel_in_own_loop(tx, s, A, B):
    for _ in T.serial(tx):
        for i in T.Parallel(64):
            s[i] = 1


def parallel_of_the_thread(tx, s, A, B):
    for i in T.Parallel(64):
        s[i] = tx


def parallel_of_own_memory(tx, s, A, B):
    own = T.alloc_local((1,), "int32")
    own[0] = tx
    for i in T.Parallel(64):
        s[i] = own[0]


def copy_at_the_thread(tx, s, A, B):
    T.copy(A[tx : tx + 2], s[0:2])


def product_on_own_memory(tx, s, A, B):
    own = T.alloc_local((64, 64), "float16")
    c = T.alloc_fragment((64, 64), "float32")
    T.copy(B, own)
    T.gemm(own, own, c)


@pytest.mark.parametrize(
    "body", [copy_in_branch, parallel_in_own_loop, parallel_of_the_thread, parallel_of_own_memory, copy_at_the_thread, product_on_own_memory]
)
def test_operations_of_the_block_need_all_threads_and_one_value(body: Any) -> None:
    with refused(Kind.DIVERGENT_OPERATION):
        check_threads(launch_of(body))


def test_an_iteration_may_have_memory_of_its_own() -> None:
    def body(tx, s, A, B):
        own = T.alloc_var("int32")
        common = T.alloc_var("int32", init=A[2])
        for i in T.Parallel(64):
            own = A[i]
            s[i] = own * common

    check_threads(launch_of(body))


def test_stores_that_race() -> None:
    def racing(tx, s, A, B):
        s[3] = A[tx]

    with refused(Kind.THREAD_RACE, "the same element of s"):
        check_threads(launch_of(racing))

    def harmless(tx, s, A, B):
        s[3] = A[5]
        if tx == 1:
            s[4] = A[tx]
        s[63 - tx] = A[tx]

    check_threads(launch_of(harmless))


def test_exchanges_name_lanes_that_know_the_value() -> None:
    def unknown(tx, s, A, B):
        if tx % 32 < 8:
            x = A[tx]
            A[tx] = T.shfl_xor(x, 1)

    with refused(Kind.WARP_MASK, "0xffffffff", "0x000000ff"):
        check_threads(launch_of(unknown))

    def known(tx, s, A, B):
        x = A[tx]
        if tx % 32 < 8:
            A[tx] = T.shfl_xor(x, 1) + T.shfl_xor(A[tx] * 2, 1, mask=0xFF)
        if tx // 32 == 1:
            y = A[tx]
            A[tx] = T.warp_reduce_sum(y)

    check_threads(launch_of(known))


def test_which_threads_a_condition_lets_through() -> None:
    launch = launch_of(barrier_in_branch)
    tx = launch.thread_variables[0]
    found = active_threads(launch, [(tx < 40, True), (tx % 2 == 0, False)])
    assert found is not None and np.flatnonzero(found).tolist() == list(range(1, 40, 2))
    assert active_threads(launch, [(tx < launch.block_variables[0], True)]) is None


def test_one_thread_races_with_nobody() -> None:
    def body(tx, s, A, B):
        A[0] = T.shfl_down(A[tx], 1)

    check_threads(launch_of(body, threads=1))
    with refused(Kind.THREAD_RACE):
        check_threads(launch_of(body))
