"""Every example runs through `tilewright run`, where its own assertions check it; two at a time, each with a fresh cache."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_every_example_runs(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TILEWRIGHT_CACHE_DIR": str(tmp_path), "TILEWRIGHT_CHECK": "0"}

    def run(example: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "tilewright", "run", str(example)], capture_output=True, text=True, env=environment, cwd=tmp_path)

    assert len(EXAMPLES) >= 6
    with ThreadPoolExecutor(2) as pool:
        finished = list(pool.map(run, EXAMPLES))
    failed = [(example, done) for example, done in zip(EXAMPLES, finished, strict=True) if done.returncode != 0 or not done.stdout]
    assert not failed, "\n".join(f"{example.name}: {done.stdout}{done.stderr}" for example, done in failed)


def test_every_example_checks_itself() -> None:
    for example in EXAMPLES:
        text = example.read_text()
        assert text.startswith('"""') and ("assert_allclose" in text or "assert_array_equal" in text), f"{example.name} checks nothing"
