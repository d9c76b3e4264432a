"""Blocks renumbered for the L2 cache."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.codegen.cuda.nvrtc_checks import needs_nvrtc
from tilewright.arith.evaluate import evaluate
from tilewright.ir.expr import const, var
from tilewright.language.function import PrimFunc
from tilewright.passes.swizzle_blocks import panel_coordinates


@pytest.mark.parametrize("is_by_rows", [True, False])
@pytest.mark.parametrize("columns, rows, panel", [(1, 1, 4), (7, 5, 2), (8, 16, 8), (3, 10, 4), (13, 3, 10)])
def test_every_block_keeps_one_place(columns: int, rows: int, panel: int, is_by_rows: bool) -> None:
    x, y = var("x"), var("y")
    at = panel_coordinates(x, y, const(columns), const(rows), panel, is_by_rows)
    grid = np.indices((rows, columns))
    new_x, new_y = (np.asarray(evaluate(e, {x: grid[1], y: grid[0]}, None)) for e in at)  # type: ignore[arg-type]
    assert new_x.min() >= 0 and new_x.max() < columns and new_y.min() >= 0 and new_y.max() < rows
    assert len({(int(a), int(b)) for a, b in zip(new_x.flat, new_y.flat, strict=True)}) == rows * columns


def test_a_panel_is_walked_down_its_columns() -> None:
    x, y = var("x"), var("y")
    at = panel_coordinates(x, y, const(4), const(4), 2, True)
    first = [tuple(int(evaluate(e, {x: np.asarray(n % 4), y: np.asarray(n // 4)}, None)) for e in at) for n in range(4)]  # type: ignore[arg-type]
    assert first == [(0, 0), (0, 1), (1, 0), (1, 1)]


@needs_nvrtc
def test_every_launch_has_an_order_of_its_own() -> None:
    @T.prim_func
    def three(A: T.Tensor((1024, 1024), "float32")):
        T.use_swizzle(2)
        with T.Kernel(8, 16, threads=128) as (bx, by):
            T.use_swizzle(4)
            A[by, bx] = 1
        with T.Kernel(8, 16, threads=128) as (bx, by):
            A[by, bx] = 2
        with T.Kernel(8, 16, threads=128) as (bx, by):
            T.use_swizzle(4)
            T.use_swizzle(5, order="column")
            A[by, bx] = 3

    def alone(panel: int, order: str, value: int) -> PrimFunc:
        @T.prim_func
        def one(A: T.Tensor((1024, 1024), "float32")):
            with T.Kernel(8, 16, threads=128) as (bx, by):
                T.use_swizzle(panel, order=order)
                A[by, bx] = value

        return one

    wanted = [alone(4, "row", 1), alone(2, "row", 2), alone(5, "column", 3)]
    assert bodies(three) == [body for one in wanted for body in bodies(one)]


def bodies(function: PrimFunc) -> list[str]:
    """Of the generated kernels: what stands between their braces, without comments."""
    source = re.sub(" *//.*", "", tilewright.compile(function, target="sm_90a").get_kernel_source())
    return [part.split("{", 1)[1].split("\n}", 1)[0] for part in source.split("__global__")[1:]]


def test_barriers_of_the_grid_keep_the_order() -> None:
    @T.prim_func
    def two(A: T.Tensor((1024, 1024), "float32"), B: T.Tensor((1024, 1024), "float32")):
        with T.Kernel(8, 16, threads=128) as (bx, by):
            T.use_swizzle(4)
            A[by, bx] = 1
            T.sync_grid()
            B[by, bx] = A[by + 1, bx]

    assert [len(launch.hints) for launch in two.program.launches] == [1, 1]
