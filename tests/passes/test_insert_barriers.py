"""Barriers stand where threads meet in memory, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright.language as T
from tilewright.ir.program import Launch
from tilewright.ir.stmt import Barrier, For, If, Seq, Stmt, While
from tilewright.ir.visit import statements
from tilewright.passes.insert_barriers import CPU_THREADS, GPU_THREADS, Machine, with_barriers


def launch_of(body: Any, threads: int | tuple[int, ...] = 64, machine: Machine = CPU_THREADS) -> Launch:
    """A launch whose body is `body(tx, s, A)`: the thread, a shared tile of 256 and a tensor of 4096 elements."""
    trace = T.macro(body)

    @T.prim_func
    def kernel(A: T.Tensor((4096,), "float32")):
        with T.Kernel(8, threads=threads):
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((256,), "float32")
            trace(tx, s, A)

    return with_barriers(kernel.program.launches[0], machine)


def barriers(made: Launch) -> int:
    return sum(isinstance(s, Barrier) for s in statements(made.body))


def holders(node: Stmt, kind: type[Stmt]) -> int:
    """How many barriers stand inside statements of a kind."""
    return sum(isinstance(inner, Barrier) for s in statements(node) if isinstance(s, kind) for inner in statements(s))


def own_element(tx, s, A):
    s[tx] = A[tx]
    s[tx] += 1
    A[tx] = s[tx]


def own_stretch(tx, s, A):
    for v in T.serial(4):
        s[tx * 4 + v] = 1
    for v in T.serial(4):
        A[tx * 4 + v] = s[tx * 4 + v]


def other_buffers(tx, s, A):
    t = T.alloc_shared((64,), "float32")
    s[tx] = 1
    t[(tx + 1) % 64] = 2
    A[tx] = A[tx] + 3


def two_halves(tx, s, A):
    s[tx] = 1
    A[tx] = s[tx + 64] + s[128]


def guarded_halves(tx, s, A):
    if tx < 32:
        s[tx] = s[tx + 32]


def symbolic_halves(tx, s, A):
    width = T.alloc_var("int32", init=64)
    half = (width + 1) // 2
    if tx < width // 2:
        s[tx] += s[tx + half]


def strided_loop(tx, s, A):
    n = T.alloc_var("int32", init=7)
    for k in T.serial(n):
        A[k * 64 + tx] = 1


def atomics(tx, s, A):
    T.atomic_add(s[tx // 2], 1)
    T.atomic_add(s[0], 2)


@pytest.mark.parametrize("body", [own_element, own_stretch, other_buffers, two_halves, guarded_halves, symbolic_halves, strided_loop, atomics])
@pytest.mark.parametrize("machine", [CPU_THREADS, GPU_THREADS], ids=["cpu", "gpu"])
def test_none_where_no_two_threads_meet(body: Any, machine: Machine) -> None:
    assert barriers(launch_of(body, machine=machine)) == 0


def one_writer(tx, s, A):
    if tx == 0:
        s[0] = A[7]
    A[tx] = s[0]


def neighbour(tx, s, A):
    s[tx] = A[tx]
    A[tx] = s[(tx + 1) % 64]


def written_again(tx, s, A):
    A[tx] = s[63 - tx]
    s[tx] = 1


def in_one_statement(tx, s, A):
    s[tx] = s[tx + 1]


def after_an_atomic(tx, s, A):
    T.atomic_add(s[0], 1)
    A[tx] = s[0]


def unknown_place(tx, s, A):
    s[tx] = 1
    A[tx] = s[T.cast(A[tx], "int32")]


def global_memory(tx, s, A):
    A[tx] = 1
    s[tx] = A[tx + 1]


@pytest.mark.parametrize("body", [one_writer, neighbour, written_again, in_one_statement, after_an_atomic, unknown_place, global_memory])
@pytest.mark.parametrize("machine", [CPU_THREADS, GPU_THREADS], ids=["cpu", "gpu"])
def test_one_where_they_do(body: Any, machine: Machine) -> None:
    assert barriers(launch_of(body, machine=machine)) == 1


def test_a_barrier_of_the_user_is_enough() -> None:
    def body(tx, s, A):
        s[tx] = A[tx]
        T.sync_threads()
        A[tx] = s[63 - tx]

    assert barriers(launch_of(body)) == 1


def test_a_barrier_stands_outside_of_branches_and_loops_where_it_can() -> None:
    def body(tx, s, A):
        s[tx] = A[tx]
        if tx < 3:
            for k in T.serial(5):
                A[tx + k * 64] = s[63 - tx]

    made = launch_of(body)
    assert barriers(made) == 1 and not holders(made.body, If)


def test_turns_of_a_loop_are_kept_apart() -> None:
    def body(tx, s, A):
        for _ in T.serial(5):
            value = s[(tx + 1) % 64]
            s[tx] = value + 1

    made = launch_of(body)
    assert barriers(made) == 2 and holders(made.body, For) == 2


def test_a_turn_that_only_meets_itself_needs_one() -> None:
    def body(tx, s, A):
        for k in T.serial(2):
            s[k * 64 + tx] = 1
            A[tx + 64 * k] = s[k * 64 + 63 - tx]

    assert barriers(launch_of(body)) == 1


def test_both_paths_of_a_branch_may_meet() -> None:
    def body(tx, s, A):
        if tx < 32:
            s[tx] = A[tx]
        else:
            A[tx] = s[tx - 32]

    made = launch_of(body)
    assert barriers(made) == 1 and not holders(made.body, If) and sum(isinstance(s, If) for s in statements(made.body)) == 2


def test_threads_test_a_condition_together_that_the_body_changes() -> None:
    def body(tx, s, A):
        s[tx] = A[tx]
        while s[0] > 0:
            if tx == 0:
                s[0] -= 1

    made = launch_of(body)
    loop = next(s for s in statements(made.body) if isinstance(s, While))
    assert isinstance(loop.body, Seq) and isinstance(loop.body.body[0], Barrier) and isinstance(loop.body.body[2], Barrier)


def test_a_warp_that_waits_needs_no_block() -> None:
    def body(tx, s, A):
        s[tx] = A[tx]
        T.sync_warp()
        A[tx] = s[tx - tx % 32 + 31 - tx % 32]
        T.sync_warp()
        s[tx] = 2
        T.sync_warp()
        A[tx] = s[(tx + 1) % 64]

    assert [s.scope.value for s in statements(launch_of(body).body) if isinstance(s, Barrier)] == ["warp", "warp", "warp", "block"]


def test_an_operation_of_the_block_is_in_step_on_a_cpu_only() -> None:
    def body(tx, s, A):
        s[tx] = A[tx]
        T.copy(s[0:64], A[0:64])
        s[tx] = 2

    assert barriers(launch_of(body)) == 0
    assert barriers(launch_of(body, machine=GPU_THREADS)) == 2


def test_threads_of_several_dimensions_are_told_apart() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((8, 8), "float32"), Y: T.Tensor((8, 8), "float32")):
        with T.Kernel(1, threads=(8, 4, 2)):
            tx, ty, tz = T.get_thread_bindings()
            s = T.alloc_shared((8, 9), "float32")
            s[tz * 4 + ty, tx] = X[tz * 4 + ty, tx]
            s[tz * 4 + ty, tx] += 1
            Y[tx, tz * 4 + ty] = s[tz * 4 + ty, tx]
            Y[tx, tz * 4 + ty] += s[tx, tz * 4 + ty]

    assert barriers(with_barriers(kernel.program.launches[0], CPU_THREADS)) == 1
