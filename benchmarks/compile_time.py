"""`python -m benchmarks.compile_time`: compilation cold and from the disk cache in fresh processes, imports, and what a launch costs."""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import tilewright
import tilewright.language as T
from benchmarks.empty_call import EmptyCalls
from benchmarks.machine import describe_machine
from benchmarks.measure import Plan, Spread, measure
from benchmarks.pages import RESULTS, write_tables
from benchmarks.report import print_settings

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("third parties", "import", "back end", "decorate", "trace", "passes", "emission", "LLVM", "link", "front to end", "first call")
COLD_GOALS_MS = {"gemm": 150.0, "attention": 300.0}
WARM_GOAL_MS = 5.0
LAUNCH_GOAL_US = 1.0


def run_probe(name: str, state: str, cache: str) -> dict[str, float]:
    """Milliseconds of each stage in a fresh process."""
    environment = os.environ | {"TILEWRIGHT_CACHE_DIR": cache, "TILEWRIGHT_CACHE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    finished = subprocess.run([sys.executable, "-m", "benchmarks.compile_probe", name, state], env=environment, cwd=ROOT, capture_output=True, text=True)
    if finished.returncode:
        raise click.ClickException(f"compile_probe {name} failed:\n{finished.stderr}")
    found: dict[str, float] = json.loads(finished.stdout)
    # From the Python function to code that can be called; what `compile` does around its stages (argument checks, the call plan) counts.
    found["front to end"] = found["trace"] + found["compile"]
    return found


def compile_samples(name: str, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Cold and warm samples. Each cold one has an empty cache, which the warm one after it finds filled."""
    samples: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as cache:
        run_probe(name, "cold", cache)  # leaves bytecode behind, which the samples then find
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for state in samples:
                sample = run_probe(name, state, cache)
                if bool(sample["is_from_cache"]) != (state == "warm"):
                    raise click.ClickException(f"{name}: the {state} compilation {'came' if sample['is_from_cache'] else 'did not come'} from the disk cache")
                samples[state].append(sample)
    return samples


def print_compilation(console: Console, rounds: int) -> list[dict[str, Any]]:
    table = Table(title=f"compilation in fresh processes, ms: median (smallest) of {rounds}", title_justify="left")
    table.add_column("program")
    table.add_column("cache")
    for stage in (*STAGES, "goal"):
        table.add_column(stage, justify="right")
    table.add_column("met")
    rows = []
    for name, cold_goal in COLD_GOALS_MS.items():
        for state, samples in compile_samples(name, rounds).items():
            goal = cold_goal if state == "cold" else WARM_GOAL_MS
            medians = {stage: statistics.median(s[stage] for s in samples) for stage in STAGES}
            # The goal for the cache is about the compiler's own work: tracing gives the key.
            judged = medians["front to end"]
            cells = [f"{medians[stage]:.1f} ({min(s[stage] for s in samples):.1f})" for stage in STAGES]
            table.add_row(name, state, *cells, f"{goal:g}", "[green]yes[/green]" if judged <= goal else "[red]no[/red]")
            rows.append({"what": f"compile {name} {state}", **medians, "goal": goal, "is_met": judged <= goal})
    console.print(table)
    return rows


@T.prim_func
def _next(A: T.Tensor((16,), "float32"), B: T.Tensor((16,), "float32")) -> None:
    with T.Kernel(1):
        for i in T.Parallel(16):
            B[i] = A[i] + 1


def launch_contenders() -> dict[str, Callable[[], Any]]:
    """Calls with the same small arguments."""
    empty = EmptyCalls()
    kernel, returning = tilewright.compile(_next), tilewright.compile(_next, out_idx=[-1])
    a, b = np.zeros(16, np.float32), np.zeros(16, np.float32)
    address = a.__array_interface__["data"][0]
    calls: dict[str, Callable[[], Any]] = {
        "empty METH_FASTCALL": lambda: empty.fastcall(a, b),
        "empty ctypes call": lambda: empty.through_ctypes(address, address, address),
        "numpy: add(a, 1, out=b)": lambda: np.add(a, 1, out=b),
        "ours, numpy": lambda: kernel(a, b),
        "ours, numpy, out_idx": lambda: returning(a),
    }
    if torch is not None:
        x, y = torch.zeros(16), torch.zeros(16)
        calls |= {"torch: add(x, 1, out=y)": lambda: torch.add(x, 1, out=y), "ours, torch": lambda: kernel(x, y), "ours, torch, out_idx": lambda: returning(x)}
    return calls


def print_launches(console: Console, rounds: int) -> list[dict[str, Any]]:
    times = measure(launch_contenders(), Plan(rounds, 0.01))
    empty = times["empty METH_FASTCALL"]
    table = Table(title="one call with 16 elements, microseconds", title_justify="left")
    table.add_column("call")
    for name in ("median", "smallest", "above the empty call", "goal"):
        table.add_column(name, justify="right")
    table.add_column("met")
    rows = []
    for name, seconds in times.items():
        above = 1e6 * Spread.of(seconds - empty).median
        is_met = above <= LAUNCH_GOAL_US if name == "ours, numpy" else None
        table.add_row(
            name,
            f"{1e6 * Spread.of(seconds).median:.2f}",
            f"{1e6 * float(seconds.min()):.2f}",
            f"{above:.2f}",
            "" if is_met is None else f"{LAUNCH_GOAL_US:g}",
            {None: "", True: "[green]yes[/green]", False: "[red]no[/red]"}[is_met],
        )
        rows.append(
            {
                "what": f"launch {name}",
                "microseconds": 1e6 * Spread.of(seconds).median,
                "above empty": above,
                "goal": "" if is_met is None else LAUNCH_GOAL_US,
                "is_met": is_met,
            }
        )
    console.print(table)
    return rows


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Fresh processes per program and state of the cache.")
@click.option(
    "--csv",
    "csv_path",
    default=RESULTS / "compile_time.csv",
    show_default="benchmarks/results/compile_time.csv",
    type=click.Path(path_type=Path),
    help="Where the results go as CSV.",
)
def main(rounds: int, csv_path: Path) -> None:
    """Measure compilation and launches."""
    console = Console() if sys.stdout.isatty() else Console(width=200)
    print_settings(console, describe_machine())
    rows = print_compilation(console, rounds) + print_launches(console, max(rounds, 15))
    csv_path.parent.mkdir(parents=True, exist_ok=True)
    with csv_path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    console.print(f"written to {csv_path}", highlight=False, soft_wrap=True)
    if csv_path.resolve().parent == RESULTS:
        write_tables()


if __name__ == "__main__":
    main()
