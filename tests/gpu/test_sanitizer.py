"""compute-sanitizer has nothing to say about the examples and the kernels that ship, and each of its tools finds a bug that is planted for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.gpu.device import needs_gpu

ROOT = Path(__file__).resolve().parents[2]
SANITIZER = shutil.which("compute-sanitizer")
pytestmark = [needs_gpu, pytest.mark.skipif(SANITIZER is None, reason="compute-sanitizer is not on the PATH"), pytest.mark.timeout(400)]

MODULE = "tests.gpu.sanitized"
# Per tool: the bug planted for it, and words of its report. Source: Compute Sanitizer documentation, descriptions of the tools.
PLANTED = {
    "memcheck": ("out-of-bounds", "Invalid __global__ read"),
    "racecheck": ("race", "hazard"),
    "synccheck": ("barrier", "Divergent thread"),
    "initcheck": ("uninitialised", "Uninitialized __global__ memory read"),
}
NOTHING = ("ERROR SUMMARY: 0 errors", "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)")
Runs = dict[tuple[str, str], "Future[subprocess.CompletedProcess[str]]"]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """All runs by tool and program, begun at once: a tool mostly waits for the one processor that it instruments code on."""
    alone = run([sys.executable, "-m", MODULE, "examples"])  # also fills the cache of compiled kernels
    assert alone.returncode == 0, alone.stdout[-8000:]
    with ThreadPoolExecutor(8) as pool:
        started: Runs = {}
        for tool, (bug, _) in PLANTED.items():
            for program in ("examples", bug):
                errors = ["--report-api-errors", "no"] if tool == "memcheck" else []
                command = [str(SANITIZER), "--tool", tool, *errors, "--print-limit", "20", sys.executable, "-m", MODULE, program]
                started[tool, program] = pool.submit(run, command)
        yield started


def output_of(runs: Runs, tool: str, program: str) -> tuple[str, int]:
    finished = runs[tool, program].result()
    if "Device not supported" in finished.stdout:
        pytest.skip("compute-sanitizer does not support this machine's device")
    print(finished.stdout)  # for the report of a failure
    return finished.stdout, finished.returncode


@pytest.mark.parametrize("tool", PLANTED)
def test_a_planted_bug_is_found(runs: Runs, tool: str) -> None:
    bug, words = PLANTED[tool]
    output, _ = output_of(runs, tool, bug)
    assert words in output and "SUMMARY" in output and not any(nothing in output for nothing in NOTHING)


@pytest.mark.parametrize("tool", PLANTED)
def test_examples_and_shipped_kernels_are_clean(runs: Runs, tool: str) -> None:
    output, code = output_of(runs, tool, "examples")
    assert code == 0 and "\ndone" in output
    assert any(nothing in output for nothing in NOTHING)
