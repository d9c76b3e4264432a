"""Results as a table and as CSV."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Result:
    """One case with one thread count. Ratios are how many times faster ours is: medians over the rounds; None where there is no such peer.

    low, high    quartiles of the ratio that the goal is about, or of the ratio to the faster peer where there is no goal.
    error        largest error against float64, relative to the largest element.
    is_met       None without a goal.
    device       the processor; `versions` are those of tilewright and the peers.
    """

    group: str
    case: str
    shape: str
    dtype: str
    threads: int
    ours_ms: float
    rate: float
    rate_unit: str
    to_torch: float | None
    to_numpy: float | None
    to_fp32: float | None
    to_best: float | None
    low: float | None
    high: float | None
    goal: float | None
    goal_peer: str
    is_met: bool | None
    error: float
    torch_ms: float | None
    numpy_ms: float | None
    rounds: int
    clock: str
    device: str
    versions: str


_FIELDS = tuple(f.name for f in dataclasses.fields(Result))


def write_csv(path: Path, results: Sequence[Result]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, _FIELDS)
        writer.writeheader()
        for result in results:
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in dataclasses.asdict(result).items()})


def print_settings(console: Console, settings: Mapping[str, str]) -> None:
    width = max(map(len, settings))
    for name, value in settings.items():
        console.print(f"{name:<{width}}  {value}", markup=False, highlight=False, soft_wrap=True)
    console.print()


def print_results(console: Console, results: Sequence[Result]) -> None:
    """Ratios above 1 mean that ours is faster."""
    table = Table(title="times faster than: medians of the ratios of each round", title_justify="left")
    for name in ("case", "shape", "dtype"):
        table.add_column(name, no_wrap=True)
    for name in ("threads", "ours ms", "rate", "torch", "numpy", "fp32", "quartiles", "goal"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("met", no_wrap=True)
    for r in results:
        goal = "" if r.goal is None else f"{r.goal:.2f} {r.goal_peer}"
        quartiles = "" if r.low is None or r.high is None else f"{r.low:.2f}-{r.high:.2f}"
        met = {None: "", True: "[green]yes[/green]", False: "[red]no[/red]"}[r.is_met]
        table.add_row(
            r.case,
            r.shape,
            r.dtype,
            str(r.threads),
            f"{r.ours_ms:.4g}",
            f"{r.rate:.1f} {r.rate_unit}",
            *map(_ratio, (r.to_torch, r.to_numpy, r.to_fp32)),
            quartiles,
            goal,
            met,
        )
    console.print(table)
    with_goal = [r for r in results if r.is_met is not None]
    if with_goal:
        console.print(f"{sum(bool(r.is_met) for r in with_goal)} of {len(with_goal)} goals met", highlight=False)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def print_scaling(console: Console, results: Sequence[Result]) -> None:
    """How much faster the most threads are than one, ours and torch. The thread counts ran one after the other, so drift of the machine shows."""
    most = max(r.threads for r in results)
    single = {(r.case, r.shape, r.dtype): r for r in results if r.threads == 1}
    if most == 1 or not single:
        return
    table = Table(title=f"{most} threads against 1: times faster (runs one after the other, less exact than the ratios above)", title_justify="left")
    for name in ("case", "shape", "dtype"):
        table.add_column(name, no_wrap=True)
    for name in ("ours", "torch", "numpy"):
        table.add_column(name, justify="right")
    for r in results:
        one = single.get((r.case, r.shape, r.dtype))
        if r.threads == most and one is not None:
            table.add_row(
                r.case,
                r.shape,
                r.dtype,
                *(_ratio(a / b if a and b else None) for a, b in ((one.ours_ms, r.ours_ms), (one.torch_ms, r.torch_ms), (one.numpy_ms, r.numpy_ms))),
            )
    console.print(table)
