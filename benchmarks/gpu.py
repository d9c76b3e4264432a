"""`python -m benchmarks.gpu`: our kernels beside torch's on one NVIDIA GPU.

Contenders take turns in a fresh random order every round, since a card at its power limit runs each at the clock that its neighbours leave. Times are
those of CUDA events around a turn of many calls; results are compared with the peer's before anything is measured.
"""

from __future__ import annotations

import csv
import dataclasses
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks.gpu_cases import Case, attention_cases, compiled, gemm_cases, memory_cases
from benchmarks.measure import Spread, ratio
from benchmarks.plot import show_everywhere

RESULTS = Path(__file__).parent / "results"
GROUPS: dict[str, Callable[[], list[Case]]] = {"memory": memory_cases, "gemm": gemm_cases, "attention": attention_cases}


@dataclass(frozen=True)
class Result:
    """One case. `ratio` is how many times faster ours is than the named peer: the median over the rounds, with quartiles."""

    group: str
    case: str
    shape: str
    dtype: str
    target: str
    ours_us: float
    rate: float
    rate_unit: str
    peer: str
    peer_us: float
    ratio: float
    low: float
    high: float
    goal: str
    is_met: bool
    error: float
    registers: int
    spilled_bytes: int
    device: str
    versions: str


def _gpu_state() -> str:
    query = "clocks.sm,clocks.mem,power.draw,temperature.gpu"
    found = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    return found.stdout.strip().splitlines()[0] if found.returncode == 0 else "unknown"


def _turn(call: Callable[[], Any], count: int) -> float:
    """Seconds per call."""
    import torch

    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(count):
        call()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) / 1e3 / count


def _times(contenders: dict[str, Callable[[], Any]], rounds: int, turn_seconds: float, seed: int) -> dict[str, np.ndarray]:
    rng = random.Random(seed)
    counts = {}
    for name, call in contenders.items():
        call()
        counts[name] = max(1, round(turn_seconds / max(_turn(call, 3), 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            seconds[name].append(_turn(contenders[name], counts[name]))
    return {name: np.array(values) for name, values in seconds.items()}


def _run(case: Case, target: Any, rounds: int, turn_seconds: float, seed: int) -> Result:
    import torch

    kernel = compiled(case, target)
    inputs = case.inputs()
    output = inputs[-1]
    name, peer = next(iter(case.peers.items()))
    kernel(*inputs)
    ours = output.float().clone()
    expected = peer(*inputs)
    theirs = (expected if expected is not None else output).float()
    error = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-6))
    if not error <= case.tolerance:
        raise SystemExit(f"{case.name} {case.shape} {case.dtype}: differs from {name} by {error:.3g} of the largest value")
    del ours, theirs, expected
    torch.cuda.synchronize()
    bound = kernel.bind(*inputs)
    times = _times({"ours": bound, **{n: (lambda p=p: p(*inputs)) for n, p in case.peers.items()}}, rounds, turn_seconds, seed)
    mine, other = times["ours"], times[name]
    seconds = float(np.median(mine))
    against: Spread = ratio(other, mine)
    rate, unit = (case.bytes_moved / seconds / 1e12, "TB/s") if case.flops == 0 else (case.flops / seconds / 1e12, "TFLOP/s")
    is_met = rate >= case.goal if case.goal_peer is None else against.median >= case.goal
    goal = f"{case.goal} TB/s" if case.goal_peer is None else f"{case.goal} {case.goal_peer}"
    resources = _resources(kernel)
    return Result(
        case.group,
        case.name,
        case.shape,
        case.dtype,
        str(kernel.target.name),
        1e6 * seconds,
        rate,
        unit,
        name,
        1e6 * float(np.median(other)),
        against.median,
        against.low,
        against.high,
        goal,
        is_met,
        error,
        *resources,
        torch.cuda.get_device_name(),
        _versions(),
    )


def _versions() -> str:
    import torch

    return f"tilewright {tilewright.__version__}, torch {torch.__version__}, CUDA {torch.version.cuda}"


def _resources(kernel: Any) -> tuple[int, int]:
    """Registers of a thread, and bytes that it spills; each program here is one launch."""
    (launch,) = kernel.resources()
    return launch.registers, launch.spill_store_bytes


def _show(console: Console, results: list[Result]) -> None:
    table = Table(title="ratio: how many times faster than the peer, medians of the rounds", title_justify="left")
    for column in ("case", "shape", "dtype", "ours us", "rate", "peer", "peer us", "ratio", "quartiles", "goal", "met", "regs", "spill"):
        table.add_column(column, no_wrap=True)
    for r in results:
        table.add_row(
            r.case,
            r.shape,
            r.dtype,
            f"{r.ours_us:.1f}",
            f"{r.rate:.2f} {r.rate_unit}",
            r.peer,
            f"{r.peer_us:.1f}",
            f"{r.ratio:.3f}",
            f"{r.low:.3f}-{r.high:.3f}",
            r.goal,
            "yes" if r.is_met else "no",
            str(r.registers),
            str(r.spilled_bytes),
        )
    console.print(table)


@click.command()
@click.option("--only", default="memory,gemm,attention", help=f"Groups, separated by commas: {', '.join(GROUPS)}.")
@click.option("--case", "wanted", default="", help="Only cases whose name, shape and dtype contain this text.")
@click.option("--target", default="cuda", help="An architecture to compile for, or cuda: that of the device.")
@click.option("--rounds", default=9, type=click.IntRange(min=1))
@click.option("--turn-ms", default=20.0, type=float)
@click.option("--seed", default=0)
@click.option("--csv", "csv_path", default=RESULTS / "gpu.csv", type=click.Path(path_type=Path))
def main(only: str, wanted: str, target: str, rounds: int, turn_ms: float, seed: int, csv_path: Path) -> None:
    """Compares kernels with torch's on the GPU of this machine."""
    import torch

    console = Console(width=200)
    console.print(f"{torch.cuda.get_device_name()}, {_versions()}; SM clock, memory clock, power, °C:")
    console.print(_gpu_state())
    results: list[Result] = []
    failures = 0
    for group in only.split(","):
        for case in GROUPS[group]():
            if wanted not in f"{case.name} {case.shape} {case.dtype}":
                continue
            try:
                results.append(_run(case, target, rounds, turn_ms / 1e3, seed))
                console.print(
                    f"{case.name} {case.shape} {case.dtype}: {results[-1].ratio:.3f} of {results[-1].peer}, {results[-1].rate:.2f} {results[-1].rate_unit}"
                )
            except (SystemExit, Exception) as error:  # the others still count
                failures += 1
                console.print(f"FAILED {case.name} {case.shape} {case.dtype}: {type(error).__name__}: {error}")
            torch.cuda.empty_cache()
    _show(console, results)
    console.print(f"{sum(r.is_met for r in results)} of {len(results)} goals met; {_gpu_state()}")
    csv_path.parent.mkdir(parents=True, exist_ok=True)
    with csv_path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in dataclasses.fields(Result)])
        writer.writeheader()
        writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in dataclasses.asdict(r).items()} for r in results)
    show_everywhere(csv_path, "gpu", console)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
