"""Loads of operands: which instruction, and that every address is that of the fragment's element."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ops.gemm.thread_products import SPAN, row_major, swizzled
from tilewright.arith.evaluate import evaluate
from tilewright.dtypes import as_dtype
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, const, var
from tilewright.ir.stmt import For, Let, Stmt, Store
from tilewright.ir.thread import InstructionCall, VectorCopy
from tilewright.layout import Layout, MemoryLayout
from tilewright.ops.gemm.partition import GemmPlan, GemmWarpPolicy, choose_partition
from tilewright.ops.gemm.shared_operand import has_runs, plan_fragment_load
from tilewright.ops.gemm.threads import SharedTile
from tilewright.target.nvidia import SM_80

LANE, WARP, STEP = var("lane"), var("warp"), var("step")


def plan_of(m: int, n: int, k: int, dtype: str = "float16") -> GemmPlan:
    operand = as_dtype(dtype)
    return choose_partition(m, n, k, operand, operand, as_dtype("float64" if dtype == "float64" else "float32"), 128, GemmWarpPolicy.Square, SM_80)


def tile_of(shape: tuple[int, int], memory: MemoryLayout, dtype: str = "float16", starts: tuple[int, int] = (0, 0)) -> SharedTile:
    return SharedTile(Buffer("tile", as_dtype(dtype), (memory.size_elements,), Scope.SHARED, SPAN), memory, tuple(map(const, starts)))


def loads(tile: SharedTile, fragment: Layout, extents: tuple[int, int]) -> tuple[dict[Expr, Expr], Stmt, Expr | None]:
    """What is computed once, the access itself, and the variable of the loop around it."""
    found = plan_fragment_load(tile, fragment, extents, "a", LANE, WARP, SPAN)
    registers = Buffer("registers", tile.buffer.dtype, (fragment.in_axis("reg").extent,), Scope.LOCAL, SPAN)
    made = found.emit(STEP, registers, const(0))
    names = {let.variable: let.value for let in found.before if isinstance(let, Let)}
    return (names, made.body, made.variable) if isinstance(made, For) else (names, made, None)


def addresses(names: dict[Expr, Expr], address: Expr, loop: Expr | None, count: int, steps: int, warps: int) -> Any:
    """[repeat, step, lane, warp] -> element."""
    grid = np.meshgrid(np.arange(count), np.arange(steps), np.arange(32), np.arange(warps), indexing="ij")
    values: dict[Expr, Any] = dict(zip((loop, STEP, LANE, WARP), grid)) if loop is not None else dict(zip((STEP, LANE, WARP), grid[1:]))
    for name, value in names.items():
        values[name] = evaluate(value, values, None)  # type: ignore[arg-type]
    return np.broadcast_to(evaluate(address, values, None), grid[0].shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("memory", [row_major, swizzled])
@pytest.mark.parametrize("starts", [(0, 0), (16, 32)])
def test_a_row_of_16_bytes_is_the_fragments(memory: Any, starts: tuple[int, int]) -> None:
    """Registers of matrix 0 of each instruction on lane 0 of each row hold the row's first elements."""
    plan = plan_of(64, 32, 32)
    assert plan.a_fragment is not None
    fragment = plan.a_fragment.rename(outs={"m": "d0", "k": "d1"})
    tile = tile_of((64, 32), memory((64 + starts[0], 32 + starts[1]), 16), starts=starts)
    names, access, loop = loads(tile, fragment, (64, 32))
    assert isinstance(access, InstructionCall) and access.instruction.name == "ldmatrix.x4.float16"
    table, held = tile.memory.table(), fragment.table()
    got = addresses(names, access.operands[1].indices[0], loop, held.shape[0] // 8, plan.steps, 4)  # type: ignore[union-attr]
    for instruction in range(got.shape[0]):
        for matrix in range(4):
            first = held[8 * instruction + 2 * matrix, :, ::4]  # [step, row, warp, axis]: the first element of each row
            expected = table[first[..., 0] + starts[0], first[..., 1] + starts[1]]
            np.testing.assert_array_equal(got[instruction, :, 8 * matrix : 8 * matrix + 8], expected)


def test_what_the_thread_contributes_is_computed_once() -> None:
    plan = plan_of(128, 32, 32)
    assert plan.a_fragment is not None
    fragment = plan.a_fragment.rename(outs={"m": "d0", "k": "d1"})
    names, access, _ = loads(tile_of((128, 32), swizzled((128, 32), 16)), fragment, (128, 32))
    assert [name.name for name in names] == ["a_row"]
    assert str(access.operands[1].indices[0]) == "(a_row ^ step * 16) + i * 512"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "dtype, transposed, margin, kind, size_bytes",
    [
        ("float16", False, 0, InstructionCall, 16),
        ("float16", True, 0, InstructionCall, 16),
        ("float16", False, 2, VectorCopy, 4),
        ("float16", False, 1, Store, 2),
        ("float16", True, 1, Store, 2),
        ("float64", False, 0, Store, 8),
    ],
)
def test_the_widest_access_that_fits_is_taken(dtype: str, transposed: bool, margin: int, kind: type[Stmt], size_bytes: int) -> None:
    plan = plan_of(32, 32, 16, dtype)
    assert plan.a_fragment is not None
    stored = ("k", "m") if transposed else ("m", "k")
    fragment = plan.a_fragment.reorder(outs=stored).rename(outs={stored[0]: "d0", stored[1]: "d1"})
    shape = (16, 32) if transposed else (32, 16)
    tile = tile_of(shape, row_major((shape[0], shape[1] + margin), fragment.in_axis("lane").extent), dtype, (0, margin))
    names, access, loop = loads(tile, fragment, shape)
    assert isinstance(access, kind)
    if isinstance(access, VectorCopy):
        assert access.size_bytes == size_bytes
    if isinstance(access, Store):
        table, held = tile.memory.table(), fragment.table()
        got = addresses(names, access.value.args[0], loop, held.shape[0], plan.steps, 4)
        np.testing.assert_array_equal(got, table[held[..., 0], held[..., 1] + margin])


def test_coordinates_beyond_the_tile_stay_inside() -> None:
    plan = plan_of(20, 32, 16)
    assert plan.a_fragment is not None
    for names, memory in ((("m", "k"), row_major((20, 16), 16)), (("k", "m"), row_major((16, 20), 16))):
        fragment = plan.a_fragment.reorder(outs=names).rename(outs={names[0]: "d0", names[1]: "d1"})
        shape = (20, 16) if names[0] == "m" else (16, 20)
        before, access, loop = loads(tile_of(shape, memory), fragment, shape)
        address = access.operands[1].indices[0] if isinstance(access, InstructionCall) else access.value.args[0]  # type: ignore[attr-defined]
        count = 1 if loop is None else fragment.in_axis("reg").extent // (8 if isinstance(access, InstructionCall) else 1)
        got = addresses(before, address, loop, count, plan.steps, 4)
        assert got.min() >= 0 and got.max() + (8 if isinstance(access, InstructionCall) else 1) <= 320


def test_runs_are_aligned_whole_and_in_order() -> None:
    memory = row_major((16, 24), 16)
    assert has_runs(tile_of((16, 24), memory), (16, 24), "d1", 8)
    assert not has_runs(tile_of((16, 24), memory), (16, 24), "d1", 16)  # 24 is not whole runs
    assert not has_runs(tile_of((16, 24), memory), (16, 24), "d0", 2)
    assert not has_runs(tile_of((16, 24), memory, starts=(0, 4)), (16, 16), "d1", 8)
    assert has_runs(tile_of((16, 24), memory, starts=(3, 8)), (8, 16), "d1", 8)
