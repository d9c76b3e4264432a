"""Exchanges of lanes that do not come: in front of the branch, with the answer of all lanes, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tests.passes.test_check_threads import launch_of
from tilewright.errors import Kind
from tilewright.ir.program import Program
from tilewright.ir.stmt import If, Stmt, WarpExchange
from tilewright.ir.visit import statements
from tilewright.passes.context import GpuPassContext
from tilewright.passes.hoist_exchanges import hoist_exchanges
from tilewright.target.nvidia import SM_80


def hoisted(body: Any, threads: int = 64) -> Stmt:
    launch = launch_of(body, threads)
    return hoist_exchanges(Program("kernel", span=launch.span, parameters=(), launches=(launch,)), GpuPassContext(SM_80)).launches[0].body


def exchanges_in_branches(body: Stmt) -> int:
    return sum(isinstance(x, WarpExchange) for s in statements(body) if isinstance(s, If) for x in statements(s))


def in_branch(tx, s, A, B):
    x = A[tx]
    if tx % 32 == 0:
        A[tx] = T.cast(T.ballot_sync(x > 0, 0xFFFFFFFF), "int32")


def in_two_branches(tx, s, A, B):
    x = A[tx]
    if x > 3:
        s[tx] = 1
        if tx % 32 < 4:
            s[tx] = 2
        else:
            A[tx] = T.warp_reduce_sum(x) + T.shfl_xor(x * 2, 1)


def test_exchanges_go_in_front_of_the_branch() -> None:
    assert exchanges_in_branches(hoisted(in_branch)) == 0
    assert exchanges_in_branches(hoisted(in_two_branches)) == 0


def test_exchanges_stay_where_all_lanes_come() -> None:
    def whole_warp(tx, s, A, B):
        x = A[tx]
        if tx // 32 == 1:
            A[tx] = T.warp_reduce_sum(x)

    def masked(tx, s, A, B):
        x = A[tx]
        if tx % 32 < 8:
            A[tx] = T.shfl_xor(x, 1, mask=0xFF)

    assert exchanges_in_branches(hoisted(whole_warp)) == 1 and exchanges_in_branches(hoisted(masked)) == 1


def in_inner_branch_of_a_warp(tx, s, A, B):
    x = A[tx]
    if tx // 32 == 1:
        s[tx] = 1
        if tx % 32 == 3:
            A[tx] = T.warp_reduce_sum(x)


def test_exchanges_go_no_further_than_they_have_to() -> None:
    assert exchanges_in_branches(hoisted(in_inner_branch_of_a_warp)) == 1


def written_before(tx, s, A, B):
    own = T.alloc_local((1,), "int32")
    own[0] = A[tx]
    if tx % 32 < 8:
        own[0] = own[0] + 1
        A[tx] = T.warp_reduce_sum(own[0])


def in_a_loop(tx, s, A, B):
    x = A[tx]
    if tx % 32 < 8:
        for k in T.serial(3):
            A[tx] = T.warp_reduce_sum(x + k)


def written_on_the_other_side(tx, s, A, B):
    own = T.alloc_local((1,), "int32")
    own[0] = A[tx]
    if tx % 32 >= 8:
        own[0] = own[0] + 1
    else:
        if tx >= 0:
            A[tx] = T.warp_reduce_sum(own[0])


@pytest.mark.parametrize("body", [written_before, in_a_loop, written_on_the_other_side])
def test_what_cannot_be_done_before_the_branch_is_refused(body: Any) -> None:
    with refused(Kind.WARP_MASK, "0xffffff00 do not come there", "cannot be done before the branch"):
        hoisted(body)


def on_the_other_side(tx, s, A, B):
    own = T.alloc_local((1,), "int32")
    own[0] = A[tx]
    if tx % 32 >= 8:
        s[tx] = 1
    else:
        A[tx] = T.warp_reduce_sum(own[0])


@pytest.mark.parametrize("body", [in_branch, in_two_branches, in_inner_branch_of_a_warp, on_the_other_side], ids=lambda b: b.__name__)
@pytest.mark.parametrize("target", ["simulate", "cpu"])
def test_the_answer_is_that_of_all_lanes(body: Any, target: str) -> None:
    trace = T.macro(body)

    @T.prim_func
    def kernel(A: T.Tensor((64,), "int32"), B: T.Tensor((64, 64), "float16")):
        with T.Kernel(1, threads=64):
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((64,), "int32")
            trace(tx, s, A, B)

    a, b = np.random.default_rng(0).integers(-9, 9, 64).astype(np.int32), np.zeros((64, 64), np.float16)
    expected = tilewright.run_reference(kernel.program, {"A": a.copy(), "B": b})["A"]
    tilewright.compile(kernel, target=target)(a, b)
    np.testing.assert_array_equal(a, expected)


def test_branches_and_loops_that_whole_warps_take_keep_their_exchanges() -> None:
    def by_vote(tx, s, A, B):
        x = T.alloc_var("int32", init=A[tx])
        while T.any_sync(x > 0) != 0:
            x = x - T.warp_reduce_max(x)

    def by_data_of_the_warp(tx, s, A, B):
        x = A[tx]
        if A[tx // 32] > 0 and tx // 32 % 2 == 0:
            for k in T.serial(A[tx // 32 + 1]):
                A[tx] = T.warp_reduce_sum(x + k)

    hoisted(by_vote)
    assert exchanges_in_branches(hoisted(by_data_of_the_warp)) == 1


def test_lanes_that_may_not_come_are_refused() -> None:
    def by_data(tx, s, A, B):
        own = T.alloc_var("int32", init=A[tx])
        while own > 0:
            own = own - T.warp_reduce_max(own)

    with refused(Kind.WARP_MASK, "some may not come there", "same for whole warps"):
        hoisted(by_data)
