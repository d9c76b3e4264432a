"""Pipelined products load the first operands of a turn at the end of the turn before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tilewright.ir.stmt import Barrier, For, If, LoopKind, Stmt
from tilewright.ir.visit import inner_statements, statements
from tilewright.passes import GPU_PASSES, run_passes
from tilewright.passes.context import GpuPassContext
from tilewright.target.nvidia import SM_80


def product(depth: int, block_depth: int, is_read_in_loop: bool = False) -> Any:
    @T.prim_func
    def main(A: T.Tensor((64, depth), "float16"), B: T.Tensor((depth, 64), "float16"), C: T.Tensor((64, 64), "float32")):
        with T.Kernel(1, threads=128):
            a = T.alloc_shared((64, block_depth), "float16")
            b = T.alloc_shared((block_depth, 64), "float16")
            c = T.alloc_fragment((64, 64), "float32")
            T.clear(c)
            for step in T.Pipelined(T.ceildiv(depth, block_depth), num_stages=3):
                T.copy(A[0, step * block_depth], a)
                T.copy(B[step * block_depth, 0], b)
                T.gemm(a, b, c)
                if is_read_in_loop:
                    for i, j in T.Parallel(64, 64):
                        c[i, j] = c[i, j] * 0.5
            T.copy(c, C)

    return main


def main_loop(func: Any) -> list[Stmt]:
    """The statements of the loop over k, sequences flattened."""
    program = run_passes(func.program, GpuPassContext(SM_80), GPU_PASSES)
    loops = [
        s
        for s in statements(program.launches[0].body)
        if isinstance(s, For) and s.kind is LoopKind.SERIAL and any(isinstance(i, Barrier) for i in statements(s))
    ]
    (loop,) = loops
    flat: list[Stmt] = []

    def visit(node: Stmt) -> None:
        for inner in inner_statements(node) if not isinstance(node, For) or node is loop else ():
            if type(inner).__name__ == "Seq":
                visit(inner)
            else:
                flat.append(inner)

    visit(loop)
    return flat


@pytest.mark.parametrize(
    "depth, block_depth, is_read_in_loop, is_rotated", [(256, 32, False, True), (256, 64, False, True), (256, 16, False, False), (256, 32, True, False)]
)
def test_a_turn_begins_with_its_operands_loaded(depth: int, block_depth: int, is_read_in_loop: bool, is_rotated: bool) -> None:
    body = main_loop(product(depth, block_depth, is_read_in_loop))
    position = next(n for n, s in enumerate(body) if isinstance(s, Barrier))
    assert (position > 1) == is_rotated  # the barrier follows the wait at the top, or stands before the last step


def test_copies_are_dealt_out_to_the_steps() -> None:
    body = main_loop(product(256, 64))
    waiting = next(n for n, s in enumerate(body) if isinstance(s, Barrier)) - 1
    lots = [sum(map(turns, statements(s))) for s in body[:waiting] if isinstance(s, If)]
    assert lots == [3, 3, 2]  # 4 copies of each tile, behind the loads of the three steps before the wait; the commit of the group goes with the last


def turns(node: Stmt) -> int:
    return int(node.extent.value) if isinstance(node, For) else 0


@pytest.mark.parametrize("block_depth", [32, 64])
@pytest.mark.parametrize("depth", [32, 64, 96, 160, 200])
def test_the_result_is_that_of_the_loop(depth: int, block_depth: int) -> None:
    kernel = tilewright.compile(product(depth, block_depth), out_idx=[-1], target="simulate")
    rng = np.random.default_rng(depth)
    a, b = (rng.integers(-3, 4, shape).astype(np.float16) for shape in ((64, depth), (depth, 64)))
    np.testing.assert_array_equal(kernel(a, b), a.astype(np.float32) @ b.astype(np.float32))
