"""The benchmarks run, and give a table and a CSV."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright.runtime.cuda_driver import has_driver

ROOT = Path(__file__).resolve().parent.parent


def test_a_quick_run_checks_the_results_and_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "cpu.csv"
    command = [sys.executable, "-m", "benchmarks.cpu", "--quick", "--only", "softmax", "--rounds", "1", "--batch-ms", "1", "--threads", "1", "--csv", str(path)]
    finished = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "TILEWRIGHT_CACHE_DIR": str(tmp_path / "cache"), "TILEWRIGHT_CHECK": "0"}, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert "softmax" in finished.stdout
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["case"], r["shape"], r["threads"], r["is_met"]) for r in rows] == [("softmax", "64x256", "1", "")]
    assert float(rows[0]["ours_ms"]) > 0
    assert float(rows[0]["error"]) < 1e-5


def test_the_launch_benchmark_says_that_it_needs_a_gpu() -> None:
    if has_driver():
        pytest.skip("this machine has a GPU")
    finished = subprocess.run([sys.executable, "-m", "benchmarks.launch"], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 1 and "needs an NVIDIA GPU" in finished.stderr
