"""T.sync_grid: what stands before it is done by all blocks before anything behind it begins."""

from __future__ import annotations

import numpy as np

import tilewright.language as T
from tests.execution import refused, run
from tilewright.errors import Kind

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


def test_a_launch_is_not_cut_inside_a_statement() -> None:
    with refused(Kind.GRID_BARRIER, "branch or a loop"):

        @T.prim_func
        def kernel(X: T.Tensor((8,), "float32")):
            with T.Kernel(8, threads=32) as b:
                if b < 4:
                    T.sync_global()
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
