"""Operations on a thread's own memory become its own loops, with the meaning that they had."""

from __future__ import annotations

import numpy as np

import tilewright.language as T
from tests.execution import run
from tilewright.ir.stmt import ParallelFor
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import statements
from tilewright.passes.context import PassContext
from tilewright.passes.lower_thread_ops import lower_thread_ops
from tilewright.target.cpu import host_target

RNG = np.random.default_rng(2)


@T.prim_func
def rows(X: T.Tensor((40, 6), "float32"), Y: T.Tensor((64, 6), "float32"), S: T.Tensor((64, 3), "float32")):
    with T.Kernel(1, threads=64):
        tx = T.get_thread_binding(0)
        row, doubled = T.alloc_local((6,), "float32"), T.alloc_local((6,), "float32")
        total, least = T.alloc_local((1,), "float32"), T.alloc_var("float32")
        T.fill(doubled, 2)
        T.copy(X[tx, 0:6], row)
        T.reduce_sum(row, total)
        T.reduce_min(row, least)
        T.cumsum(row)
        if tx % 2 == 0:
            T.clear(doubled[2:4])
        T.copy(row, Y[tx, 0:6])
        S[tx, 0] = total[0]
        S[tx, 1] = least
        T.reduce_sum(doubled, total)
        S[tx, 2] = total[0]


def test_every_thread_does_its_own() -> None:
    x = RNG.integers(-9, 9, (40, 6)).astype(np.float32)
    found = run(rows, X=x, Y=np.zeros((64, 6), np.float32), S=np.zeros((64, 3), np.float32))
    padded = np.zeros((64, 6), np.float32)
    padded[:40] = x  # rows outside the tensor are 0
    np.testing.assert_array_equal(found["Y"], padded.cumsum(1))
    np.testing.assert_array_equal(found["S"], np.stack([padded.sum(1), padded.min(1), np.where(np.arange(64) % 2, 12, 8)], 1))


def test_only_operations_of_the_block_are_left() -> None:
    lowered = lower_thread_ops(rows.program, PassContext(host_target()))
    assert not any(isinstance(s, (TileOp, ParallelFor)) for s in statements(lowered.launches[0].body))


def test_tile_programs_stay_as_they_are() -> None:
    @T.prim_func
    def kernel(X: T.Tensor((8,), "float32")):
        with T.Kernel(1, threads=32):
            own = T.alloc_local((8,), "float32")
            T.clear(own)
            T.copy(own, X)

    assert lower_thread_ops(kernel.program, PassContext(host_target())).launches[0] is kernel.program.launches[0]
