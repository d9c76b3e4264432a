"""Copies of pipelines as cp.async."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright.language as T
from tilewright.ir.stmt import If
from tilewright.ir.thread import AsyncRegion, InstructionCall
from tilewright.ir.visit import statements
from tilewright.passes import GPU_PASSES, run_passes
from tilewright.passes.context import GpuPassContext
from tilewright.target.nvidia import SM_80


def column_sums(rows: int, columns: int, dtype: str, tile_dtype: str) -> Any:
    @T.prim_func
    def main(A: T.Tensor((rows, columns), dtype), B: T.Tensor((32, columns), "float32")):
        with T.Kernel(1, threads=128):
            tile = T.alloc_shared((32, columns), tile_dtype)
            total = T.alloc_fragment((32, columns), "float32")
            T.clear(total)
            for k in T.Pipelined(T.ceildiv(rows, 32), num_stages=3):
                T.copy(A[k * 32, 0], tile)
                for i, j in T.Parallel(32, columns):
                    total[i, j] += tile[i, j]
            T.copy(total, B)

    return main


def lowered(func: Any) -> tuple[list[str], GpuPassContext, list[Any]]:
    context = GpuPassContext(SM_80)
    program = run_passes(func.program, context, GPU_PASSES)
    body = list(statements(program.launches[0].body))
    assert not any(isinstance(s, AsyncRegion) for s in body)
    return [s.instruction.name for s in body if isinstance(s, InstructionCall)], context, body


def test_whole_rows_are_copied_by_sixteen_bytes() -> None:
    names, context, _ = lowered(column_sums(128, 64, "float16", "float16"))
    assert names.count("cp.async.cg.16") == 2 and not context.remarks


def test_rows_that_may_lie_outside_are_filled_with_zeros_by_the_instruction() -> None:
    names, _, body = lowered(column_sums(100, 64, "float16", "float16"))
    assert "cp.async.cg.16.zfill" in names
    assert not any(isinstance(s, If) and "100" in str(s.condition) for s in body)


@pytest.mark.parametrize("columns, dtype, tile_dtype", [(64, "float16", "float32"), (33, "float16", "float16")])
def test_what_no_instruction_copies_stays_a_copy_through_registers(columns: int, dtype: str, tile_dtype: str) -> None:
    names, context, _ = lowered(column_sums(128, columns, dtype, tile_dtype))
    assert not any(name.startswith("cp.async.c") and "commit" not in name for name in names)
    assert context.remarks
