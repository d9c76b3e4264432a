"""Hints and promises: accepted without an effect on results, refused where they make no sense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind
from tilewright.ir.program import HintKind
from tilewright.ir.stmt import If
from tilewright.ir.visit import statements


@T.prim_func
def copied(A: T.Tensor((64, 64), "float16"), B: T.Tensor((64, 64), "float16")):
    T.func_attr({"global_symbol": "copied", "tir.noalias": True})
    with T.Kernel(4, threads=128) as bx:
        tile = T.alloc_shared((16, 64), "float16")
        T.use_swizzle(panel_size=10)
        T.use_swizzle(4, order="column", enable=False)
        T.annotate_layout({tile: tilewright.layout.make_swizzled_layout(tile)})
        T.annotate_l2_hit_ratio({A: 0.5})
        T.annotate_restrict_buffers(A, B)
        T.annotate_min_blocks_per_sm(2)
        T.annotate_compile_flags(["-O3"])
        T.annotate_pass_configs({"tl.disable_tma_lower": True})
        T.disable_warp_group_reg_alloc()
        T.set_max_nreg(240, 1)
        T.inc_max_nreg(240)
        T.dec_max_nreg(24)
        T.annotate_producer_reg_dealloc(24)
        T.annotate_consumer_reg_alloc(240)
        T.no_set_max_nreg()
        T.copy(A[bx * 16, 0], tile)
        T.copy(tile, B[bx * 16, 0])


def test_hints_are_kept_and_change_nothing() -> None:
    (launch,) = copied.program.launches
    assert {h.kind for h in copied.program.hints} == set(HintKind) - {HintKind.SWIZZLE_BLOCKS}
    assert [(h.kind, h.values) for h in launch.hints] == [(HintKind.SWIZZLE_BLOCKS, (10, "row"))]
    a = integers((64, 64), np.float16)
    np.testing.assert_array_equal(run(copied, A=a, B=np.zeros_like(a))["B"], a)


def guard_count(place: str) -> int:
    @T.prim_func
    def main(A: T.Tensor((8,), "float32"), m: T.int32):
        if place == "outside":
            T.assume(m >= 0)
            T.assume(m < 8)
        with T.Kernel(1):
            if place == "inside":
                T.assume(m >= 0)
                T.assume(m < 8)
            A[m] = 1
        with T.Kernel(1):
            A[m] = A[m] + 1

    kernel = tilewright.compile(main)
    a = np.zeros(8, np.float32)
    kernel(a, 3)
    assert a[3] == 2
    return sum(isinstance(s, If) for launch in kernel.compiled.lowered.launches for s in statements(launch.body))


def test_promises_drop_guards_and_hold_in_every_launch_below_them() -> None:
    assert (guard_count("nowhere"), guard_count("inside"), guard_count("outside")) == (2, 1, 0)


def test_a_promise_of_a_function_without_a_launch() -> None:
    @T.prim_func
    def main(A: T.Tensor((8,), "float32"), m: T.int32):
        T.assume(m < 8)
        A[m] = 1

    assert run(main, A=np.zeros(8, np.float32), m=2)["A"].sum() == 1


def test_a_safe_value_is_what_lies_outside() -> None:
    @T.prim_func
    def main(A: T.Tensor((5,), "float32"), B: T.Tensor((8,), "float32")):
        with T.Kernel(1):
            T.annotate_safe_value({A: -1.0})
            for i in T.Parallel(8):
                B[i] = A[i]

    np.testing.assert_array_equal(run(main, A=np.ones(5, np.float32), B=np.zeros(8, np.float32))["B"], [1] * 5 + [-1] * 3)


def trace(statement: Any) -> None:
    @T.prim_func
    def main(A: T.Tensor((64, 64), "float16")):
        with T.Kernel(1):
            tile = T.alloc_shared((16, 64), "float16")
            statement(A, tile)
            A[0, 0] = 1


@pytest.mark.parametrize(
    "statement",
    [
        lambda A, tile: T.use_swizzle(0),
        lambda A, tile: T.use_swizzle(8, order="diagonal"),
        lambda A, tile: T.annotate_layout(tile),
        lambda A, tile: T.annotate_layout({A: lambda i, j: (j, i)}),
        lambda A, tile: T.annotate_layout({tile: 3}),
        lambda A, tile: T.annotate_safe_value({tile: 0}),
        lambda A, tile: T.annotate_l2_hit_ratio({A: 2}),
        lambda A, tile: T.annotate_restrict_buffers(3),
        lambda A, tile: T.annotate_min_blocks_per_sm(0),
        lambda A, tile: T.annotate_compile_flags(3),
        lambda A, tile: T.annotate_pass_configs([1]),
        lambda A, tile: T.set_max_nreg("many", 1),
        lambda A, tile: T.func_attr(["a"]),
        lambda A, tile: T.assume(False),
    ],
)
def test_hints_that_make_no_sense_are_refused(statement: Any) -> None:
    with refused(Kind.ANNOTATION):
        trace(statement)


def test_a_layout_of_another_shape_is_refused() -> None:
    with refused(Kind.LAYOUT_SHAPE, "float16[16, 64]"):
        trace(lambda A, tile: T.annotate_layout({tile: T.Layout((8, 8), lambda i, j: (i, j))}))
