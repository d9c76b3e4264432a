"""The pipeline: passes in order, records, remarks, dumps; and that no pass changes a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import call, compile_with, copied
from tests.passes.products import exact, operands, product, without
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import statements
from tilewright.passes import CPU_PASSES, CpuPass, PassContext, PassRecord, run_passes
from tilewright.passes.check_program import check_program
from tilewright.passes.guard_accesses import guard_accesses
from tilewright.passes.lower_tile_ops import lower_tile_ops
from tilewright.target.cpu import host_target

OPTIONAL = [p for p in CPU_PASSES if p not in (lower_tile_ops, guard_accesses)]


def test_records_follow_the_passes() -> None:
    records: list[PassRecord] = []
    context = PassContext(host_target())
    kernel = product(40, 40, 64)
    program = run_passes(kernel.program, context, CPU_PASSES, records)
    assert [r.name for r in records] == [p.__name__ for p in CPU_PASSES]
    assert records[-1].program is program and records[0].program is kernel.program and all(r.seconds >= 0 for r in records)
    assert not any(isinstance(s, TileOp) for launch in program.launches for s in statements(launch.body))
    assert run_passes(kernel.program, context, ()) is kernel.program
    assert run_passes(kernel.program, context, (check_program,)) is kernel.program


def test_programs_are_written_where_the_environment_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_DUMP", str(tmp_path / "dump"))
    run_passes(product(40, 40, 64).program, PassContext(host_target()), CPU_PASSES)
    files = sorted(p.name for p in (tmp_path / "dump").iterdir())
    assert files == [f"kernel.{k:02d}.{p.__name__}.txt" for k, p in enumerate(CPU_PASSES)]
    assert (tmp_path / "dump" / files[0]).read_text().startswith("def kernel(A: float32[40, 64]")


@pytest.mark.parametrize("left_out", OPTIONAL, ids=lambda p: p.__name__)
def test_every_pass_but_the_lowering_can_be_left_out(left_out: CpuPass) -> None:
    kernel = product(*T.dynamic("m, n, k"), operand="float16")
    arguments = operands(37, 50, 70, operand="float16")
    found = call(compile_with(kernel, without(left_out)), kernel.program, copied(arguments))
    np.testing.assert_array_equal(found["C"], exact(arguments))


def test_the_whole_pipeline_is_deterministic() -> None:
    texts = set()
    for _ in range(2):
        context = PassContext(host_target())
        run_passes(product(200, 200, 64).program, context, CPU_PASSES)
        texts.add(tuple(r.text for r in context.remarks))
    assert len(texts) == 1
