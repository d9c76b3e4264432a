"""Operands that a loop does not change are held in registers."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright.language as T
from tilewright.passes import GPU_PASSES, run_passes
from tilewright.passes.context import GpuPassContext
from tilewright.target.nvidia import SM_80


def scores(rows: int, width: int, is_rewritten: bool) -> Any:
    @T.prim_func
    def main(Q: T.Tensor((rows, width), "float16"), K: T.Tensor((512, width), "float16"), S: T.Tensor((rows, 512), "float32")):
        with T.Kernel(1, threads=128):
            q = T.alloc_shared((rows, width), "float16")
            k = T.alloc_shared((64, width), "float16")
            s = T.alloc_fragment((rows, 64), "float32")
            T.copy(Q, q)
            for step in T.Pipelined(8, num_stages=2):
                T.copy(K[step * 64, 0], k)
                T.clear(s)
                T.gemm(q, k, s, transpose_B=True, policy=T.GemmWarpPolicy.FullRow)
                if is_rewritten:
                    T.fill(q, 1)
                T.copy(s, S[0, step * 64])

    return main


@pytest.mark.parametrize("rows, width, is_rewritten, is_held", [(64, 64, False, True), (64, 64, True, False), (128, 256, False, False)])
def test_a_small_tile_that_stays_the_same_is_held(rows: int, width: int, is_rewritten: bool, is_held: bool) -> None:
    context = GpuPassContext(SM_80)
    program = run_passes(scores(rows, width, is_rewritten).program, context, GPU_PASSES)
    names = [b.name for b in program.launches[0].buffers]
    assert ("q_held" in names) == is_held
    assert any("does not change" in r.text for r in context.remarks) == is_held
