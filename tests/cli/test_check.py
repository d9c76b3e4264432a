"""`tilewright check`: what the simulator finds in a program, and the exit code."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from tilewright.cli.main import main

PROGRAM = """
import numpy as np
import tilelang
import tilelang.language as T

@T.prim_func
def spread(Y: T.Tensor((4, 32), "int32")):
    with T.Kernel(4, threads=32) as bx:
        for i in T.Parallel(32):
            Y[{row}, i] = bx

kernel = tilelang.compile(spread, target="cpu")
y = np.zeros((4, 32), np.int32)
kernel(y)
kernel(y)
print(y.sum())
{end}
"""


def check(tmp_path: Path, *options: str, row: str = "bx", end: str = "") -> Result:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(row=row, end=end))
    return CliRunner().invoke(main, ["check", *options, str(script)])


def test_a_program_with_nothing_wrong(tmp_path: Path) -> None:
    result = check(tmp_path)
    assert result.exit_code == 0 and result.output.splitlines()[-2:] == ["192", "1 kernel, 2 calls: 0 findings"]


def test_a_race_is_shown_once_with_its_line(tmp_path: Path) -> None:
    result = check(tmp_path, row="0")
    assert result.exit_code == 1 and result.output.count("error[data-race]") == 1
    assert "program.py:10:" in result.output and result.output.splitlines()[-1] == "1 kernel, 2 calls: 1 finding"


def test_how_memory_is_used(tmp_path: Path) -> None:
    result = check(tmp_path, "--accesses", "--max-blocks", "2", "--arch", "sm_80")
    assert result.exit_code == 0 and "Y (global): 2 requests, 256 bytes, 8 sectors" in result.output


def test_a_program_that_fails_is_reported_as_by_run(tmp_path: Path) -> None:
    result = check(tmp_path, end="raise ValueError('no')")
    assert result.exit_code == 1 and "ValueError: no" in result.output and "0 findings" in result.output
