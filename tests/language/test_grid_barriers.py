"""T.sync_grid: what stands before it is done by all blocks before anything behind it begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused, run
from tilewright.backends.compiled import CompileOptions
from tilewright.backends.cuda import generate_cuda
from tilewright.driver import compile_program
from tilewright.errors import Kind
from tilewright.ir.stmt import Barrier, BarrierScope
from tilewright.ir.visit import statements
from tilewright.runtime.nvrtc import is_nvrtc_installed
from tilewright.sim import simulate
from tilewright.target.nvidia import SM_80, SM_90A
from tilewright.testing.barrier_removal import without

RNG = np.random.default_rng(8)


def test_threads_keep_their_memory_and_names() -> None:
    n = T.dynamic("n")

    @T.prim_func
    def kernel(X: T.Tensor((n, 64), "int32"), S: T.Tensor((n,), "int32"), Y: T.Tensor((n, 64), "int32")):
        with T.Kernel(n, threads=64) as b:
            tx = T.get_thread_binding(0)
            s = T.alloc_shared((64,), "int32")
            seen = T.view(s, (8, 8))
            own = T.alloc_local((2,), "int32")
            x = X[b, tx]
            s[tx] = x
            own[0], own[1] = x * 2, tx
            if tx == 0:
                S[b] = 0
                for k in T.serial(64):
                    S[b] = S[b] + s[k]
            T.sync_grid()
            total = T.alloc_var("int32", init=0)
            for k in T.serial(n):
                total += S[k]
            T.sync_grid()
            if tx == 0:
                S[b] = total
            Y[b, tx] = total + seen[tx // 8, 7 - tx % 8] + own[0] + own[1] + x

    assert len(kernel.program.launches) == 3
    x = RNG.integers(-9, 9, (5, 64)).astype(np.int32)
    found = run(kernel, X=x, S=np.zeros(5, np.int32), Y=np.zeros_like(x))
    turned = x.reshape(5, 8, 8)[:, :, ::-1].reshape(5, 64)
    np.testing.assert_array_equal(found["Y"], x.sum() + turned + 3 * x + np.arange(64))
    assert (found["S"] == x.sum()).all()


def test_blocks_of_tile_programs_keep_their_tiles() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((4, 3, 64), "float32"), S: T.Tensor((12,), "float32"), Y: T.Tensor((4, 3, 64), "float32")):
        with T.Kernel(3, 4, threads=64) as (bx, by):
            tile, total = T.alloc_fragment((64,), "float32"), T.alloc_fragment((1,), "float32")
            every = T.alloc_fragment((12,), "float32")
            T.copy(X[by, bx, 0], tile)
            T.reduce_sum(tile, total)
            S[by * 3 + bx] = total[0]
            T.sync_grid()
            T.copy(S, every)
            T.reduce_sum(every, total)
            for i in T.Parallel(64):
                Y[by, bx, i] = tile[i] + total[0]

    x = RNG.integers(-9, 9, (4, 3, 64)).astype(np.float32)
    np.testing.assert_array_equal(run(kernel, X=x, S=np.zeros(12, np.float32), Y=np.zeros_like(x))["Y"], x + x.sum())


n = T.dynamic("n")


@T.prim_func
def neighbours(A: T.Tensor((n, 64), "int32"), steps: T.int32, B: T.Tensor((n, 64), "int32")):
    with T.Kernel(n, threads=64) as b:
        own, tx, last = T.alloc_var("int32"), T.get_thread_binding(), steps - 1
        own = A[b, tx]
        for k in T.serial(steps):
            B[b, tx] = own
            T.sync_grid()
            own = own + B[(b + 1) % n, tx]
            if k < last:
                T.sync_grid()
        T.sync_grid()
        B[b, tx] = own


def neighbours_in_numpy(a: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        a = a + np.roll(a, -1, axis=0)
    return a


def test_blocks_meet_in_every_turn_of_a_loop() -> None:
    (launch,) = neighbours.program.launches
    assert launch.grid_barrier is not None and launch.grid_barrier in neighbours.program.workspaces
    a = RNG.integers(-9, 9, (5, 64)).astype(np.int32)
    kernel = tilewright.compile(neighbours, target="simulate")
    for steps in (0, 1, 4):
        b = np.zeros_like(a)
        kernel(a, steps, b)
        np.testing.assert_array_equal(b, neighbours_in_numpy(a, steps))


def test_a_barrier_of_the_grid_that_is_missing_is_noticed() -> None:
    lowered = tilewright.compile(neighbours, target="simulate").compiled.lowered
    first = next(s for s in statements(lowered.launches[0].body) if isinstance(s, Barrier) and s.scope is BarrierScope.GRID)
    a = RNG.integers(-9, 9, (5, 64)).astype(np.int32)
    arguments = {"A": a, "steps": 3, "B": np.zeros_like(a)}
    assert not simulate(lowered, arguments).findings and simulate(without(lowered, first), arguments).findings


@pytest.mark.parametrize("run", ["cpu", "reference"])
def test_blocks_that_run_one_after_the_other_cannot_wait_for_each_other(run: str) -> None:
    with refused(Kind.GRID_BARRIER, "neighbours", "cannot run", "simulate"):
        if run == "cpu":
            tilewright.compile(neighbours, target="cpu")
        else:
            tilewright.run_reference(neighbours.program, {})


def test_the_gpu_counts_the_blocks() -> None:
    module = generate_cuda(neighbours.program, SM_80, CompileOptions()).module
    (kernel,) = module.kernels
    assert kernel.counter is not None and module.slots[kernel.counter].workspace is neighbours.program.launches[0].grid_barrier
    assert module.text.count("tw_grid_barrier(blocks_arrived);") == 3 and "__restrict__" not in module.text
    if is_nvrtc_installed():
        assert compile_program(neighbours.program, SM_90A).binary.image.startswith(b"\x7fELF")


def branch_of_a_block(b: Any, X: Any) -> None:
    if b < 4:
        T.sync_global()


def loop_of_a_loaded_length(b: Any, X: Any) -> None:
    for _ in T.serial(T.cast(X[0], "int32")):
        T.sync_grid()


def named_length(b: Any, X: Any) -> None:
    length = T.max(b, 3)
    for k in T.serial(2):
        for _ in T.serial(length + k):
            T.sync_grid()


def loop_that_is_left(b: Any, X: Any) -> None:
    for _ in T.serial(4):
        if X[b] > 3:
            break
        T.sync_grid()


def condition(b: Any, X: Any) -> None:
    while X[b] < 3:
        T.sync_grid()


@pytest.mark.parametrize("body", [branch_of_a_block, loop_of_a_loaded_length, named_length, loop_that_is_left, condition], ids=lambda body: body.__name__)
def test_all_blocks_must_come_alike(body: Any) -> None:
    trace = T.macro(body)
    with refused(Kind.GRID_BARRIER, "depends on", "all blocks wait there"):

        @T.prim_func
        def kernel(X: T.Tensor((8,), "float32")):
            with T.Kernel(8, threads=32) as b:
                trace(b, X)
                X[b] = 1


def test_an_unfinished_reducer_is_not_kept() -> None:
    with refused(Kind.GRID_BARRIER, "total"):

        @T.prim_func
        def kernel(X: T.Tensor((8,), "float32"), Y: T.Tensor((1,), "float32")):
            with T.Kernel(1, threads=32):
                total = T.alloc_reducer((1,), "float32", "sum")
                out = T.alloc_fragment((1,), "float32")
                T.reducer_init(total)
                for i in T.Parallel(8):
                    T.reducer_update(total[0], X[i])
                T.sync_grid()
                T.finalize_reducer(total, out)
                T.copy(out, Y)
