"""The benchmarks run, and give a table and a CSV."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu, pages, report
from benchmarks.cases import GROUPS
from benchmarks.plot import CHARTS, RESULTS, cpu_charts, draw_all
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
    assert rows[0]["device"] and "tilewright" in rows[0]["versions"]
    if importlib.util.find_spec("matplotlib") is None:
        assert "pip install 'tilewright[bench]'" in finished.stdout and not list(tmp_path.glob("*.png"))
    else:
        assert [p.name for p in tmp_path.glob("*.png")] == ["cpu_memory.png"]


def kept_rows(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_kept_results_have_the_columns_that_the_benchmarks_write() -> None:
    assert list(kept_rows("cpu.csv")[0]) == [f.name for f in dataclasses.fields(report.Result)]
    assert list(kept_rows("gpu.csv")[0]) == [f.name for f in dataclasses.fields(gpu.Result)]


def test_charts_say_who_met_the_goal() -> None:
    """A bar of ours ends behind the line of the goal where, and only where, the benchmark counted the goal as met."""
    for name in ("cpu", "gpu"):
        rows, charts = kept_rows(f"{name}.csv"), CHARTS[name](kept_rows(f"{name}.csv"))
        bars = [bars for chart in charts for bars in chart.bars]
        assert len(bars) == len(rows) and len({(c.name, b.panel, b.label) for c in charts for b in c.bars}) == len(rows)
        assert sum(b.goal is not None and b.rates["tilewright"] >= b.goal for b in bars) == sum(row["is_met"] == "True" for row in rows)
        assert all(rows[0]["device"] in chart.title and len({b.unit for b in chart.bars}) == 1 for chart in charts)


@pytest.mark.parametrize("page", sorted(pages.PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_the_tables_of_the_documentation_are_those_of_the_results(page: Path) -> None:
    text = page.read_text()
    assert pages.with_tables(text) == text, "python -m benchmarks.plot writes them"


def test_every_group_of_the_benchmarks_has_a_chart() -> None:
    row = {"group": "", "case": "c", "shape": "s", "dtype": "float32", "threads": "1", "rate": "2", "rate_unit": "GB/s", "goal": "", "goal_peer": ""}
    for group in GROUPS:
        assert cpu_charts([{**row, "group": group, "to_torch": "", "to_numpy": "", "to_fp32": "", "to_best": ""}])


def test_charts_are_drawn_beside_the_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shutil.copy(RESULTS / "gpu.csv", tmp_path / "gpu.csv")
    paths = draw_all(tmp_path / "gpu.csv", "gpu")
    assert {p.name for p in paths} == {"gpu_memory.png", "gpu_gemm.png", "gpu_few_rows.png", "gpu_attention.png"}
    assert all(p.read_bytes().startswith(b"\x89PNG") and p.stat().st_size < 150_000 for p in paths)


def test_the_launch_benchmark_says_that_it_needs_a_gpu() -> None:
    if has_driver():
        pytest.skip("this machine has a GPU")
    finished = subprocess.run([sys.executable, "-m", "benchmarks.launch"], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 1 and "needs an NVIDIA GPU" in finished.stderr
