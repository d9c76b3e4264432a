"""Layouts of fragments: what binds them, what spreads, and what goes through shared memory where registers do not suffice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers
from tilewright.ir.program import Launch
from tilewright.layout import LANE, REG, WARP
from tilewright.ops.gemm import Gemm
from tilewright.passes.context import GpuPassContext
from tilewright.passes.expand_tile_ops import expand_tile_ops
from tilewright.passes.guard_accesses import guard_accesses
from tilewright.passes.infer_layouts import infer_layouts
from tilewright.passes.loop_layout import fragment_table
from tilewright.passes.stage_operands import stage_operands
from tilewright.target.nvidia import SM_80


def inferred(func: Any) -> tuple[Launch, dict[str, Any], GpuPassContext]:
    """The launch, the layouts of its fragments by name, and what the pass said."""
    context, program = GpuPassContext(SM_80), func.program
    for apply in (stage_operands, expand_tile_ops, guard_accesses, infer_layouts):
        program = apply(program, context)
    return program.launches[0], {b.name: layout for b, layout in context.fragments.items()}, context


def elementwise(shape: tuple[int, ...], threads: int) -> Any:
    @T.prim_func
    def main(A: T.Tensor(shape, "float16"), B: T.Tensor(shape, "float32")):
        with T.Kernel(1, threads=threads):
            x, y = T.alloc_fragment(shape, "float16"), T.alloc_fragment(shape, "float32")
            T.copy(A, x)
            for i, j in T.Parallel(*shape):
                y[i, j] = x[i, j] * 2.0
            T.copy(y, B)

    return main


@pytest.mark.parametrize("threads", [32, 128])
@pytest.mark.parametrize("shape", [(64, 64), (16, 24), (5, 100)])
def test_tiles_of_one_loop_lie_alike_and_hold_every_element_once(shape: tuple[int, ...], threads: int) -> None:
    launch, layouts, context = inferred(elementwise(shape, threads))
    assert layouts["x"] == layouts["y"] and not context.remarks and not [b for b in launch.buffers if b.name not in "xy"]
    held = fragment_table(layouts["x"], shape)
    assert sorted(held[held >= 0].tolist()) == list(range(shape[0] * shape[1]))


def test_an_accumulator_lies_as_its_product_wants_and_what_follows_it_too() -> None:
    @T.prim_func
    def main(A: T.Tensor((64, 32), "float16"), B: T.Tensor((32, 64), "float16"), C: T.Tensor((64, 64), "float16")):
        with T.Kernel(1, threads=128):
            a, b = T.alloc_shared((64, 32), "float16"), T.alloc_shared((32, 64), "float16")
            c, out, top = T.alloc_fragment((64, 64), "float32"), T.alloc_fragment((64, 64), "float16"), T.alloc_fragment((64,), "float32")
            T.copy(A, a)
            T.copy(B, b)
            T.clear(c)
            T.gemm(a, b, c)
            T.reduce_max(c, top, dim=1)
            for i, j in T.Parallel(64, 64):
                out[i, j] = c[i, j] - top[i]
            T.copy(out, C)

    _, layouts, _ = inferred(main)
    op = next(s for launch in main.program.launches for s in launch.body.body if isinstance(s, Gemm))
    wanted = op.plan(128, SM_80).accumulator_layout
    assert layouts["c"] == wanted == layouts["out"]
    rows = fragment_table(layouts["top"], (64,))
    tile = fragment_table(layouts["c"], (64, 64))
    for thread in range(128):
        assert set(tile[thread] // 64) <= set(rows[thread].tolist())  # each thread holds the results of its rows


def test_the_users_layout_is_kept() -> None:
    wanted = T.Fragment((32, 8), forward_fn=lambda i, j: (i, j))

    @T.prim_func
    def main(A: T.Tensor((32, 8), "float32"), B: T.Tensor((32, 8), "float32")):
        with T.Kernel(1, threads=32):
            x = T.alloc_fragment((32, 8), "float32")
            T.annotate_layout({x: wanted})
            T.copy(A, x)
            T.copy(x, B)

    _, layouts, context = inferred(main)
    np.testing.assert_array_equal(fragment_table(layouts["x"], (32, 8)), np.arange(256).reshape(32, 8))
    assert not context.remarks


def test_a_layout_of_more_threads_than_there_are_is_replaced_and_told() -> None:
    @T.prim_func
    def main(A: T.Tensor((64, 8), "float32")):
        with T.Kernel(1, threads=32):
            x = T.alloc_fragment((64, 8), "float32")
            T.annotate_layout({x: T.Fragment((64, 8), forward_fn=lambda i, j: (i, j))})
            T.copy(A, x)
            T.copy(x, A)

    _, layouts, context = inferred(main)
    assert layouts["x"].in_axis(LANE).extent * layouts["x"].in_axis(WARP).extent == 32
    assert any("the layout given for x is no digit layout" in remark.text for remark in context.remarks)


def test_small_tiles_of_scalar_code_are_held_by_every_thread() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "float32")):
        with T.Kernel(1, threads=64):
            x = T.alloc_fragment((4,), "float32")
            for i in T.serial(4):
                x[i] = 1.0
            A[0] = x[3]

    _, layouts, _ = inferred(main)
    table = fragment_table(layouts["x"], (4,))
    assert all(set(row.tolist()) >= {0, 1, 2, 3} for row in table)
    assert layouts["x"].in_axis(REG).extent == 4


def turned(threads: int) -> Any:
    @T.prim_func
    def main(A: T.Tensor((32, 32), "float32"), B: T.Tensor((32, 32), "float32")):
        with T.Kernel(1, threads=threads):
            x, y = T.alloc_fragment((32, 32), "float32"), T.alloc_fragment((32, 32), "float32")
            T.copy(A, x)
            T.copy(A, y)
            for i, j in T.Parallel(32, 32):
                y[i, j] += x[j, i]
            T.copy(y, B)

    return main


@pytest.mark.parametrize("threads", [32, 128])
def test_what_lies_with_another_thread_is_fetched_and_the_result_is_right(threads: int) -> None:
    _, layouts, _ = inferred(turned(threads))
    assert {"x", "y"} <= set(layouts)
    a = integers((32, 32))
    report = tilewright.compile(turned(threads), target="simulate").simulate(a, np.zeros_like(a))
    assert not report.findings
    np.testing.assert_array_equal(report.outputs["B"], a + a.T)
