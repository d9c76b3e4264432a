"""Tables of `docs/performance`, made from the CSVs: what stands between `<!-- NAME -->` and `<!-- end -->` on a page is written anew."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
PAGES = RESULTS.parent.parent / "docs" / "performance"
_MARKED = re.compile(r"(<!-- ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Measured:
    """One row of a CSV with a goal. `value` is what the goal is about, with quartiles where there are any; `unit` what follows the number, a peer or TB/s."""

    group: str
    where: str
    case: str
    rate: str
    value: float
    quartiles: str
    goal: float
    unit: str
    is_met: bool


def _read(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def _cpu() -> list[Measured]:
    names = {"best": "the faster of torch and numpy", "fp32": "ours in float32"}
    found = []
    for row in _read("cpu.csv"):
        if row["goal"]:
            value = float(row[f"to_{row['goal_peer']}"])
            case = f"{row['case']}, {row['shape']}" + ("" if row["dtype"] == "float32" else f", {row['dtype']}")
            quartiles = f"{float(row['low']):.2f} to {float(row['high']):.2f}"
            rate = f"{float(row['rate']):.3g} {row['rate_unit']}"
            goal, peer = float(row["goal"]), names.get(row["goal_peer"], row["goal_peer"])
            found.append(Measured(row["group"], f"{row['threads']} thr.", case, rate, value, quartiles, goal, peer, row["is_met"] == "True"))
    return found


def _gpu() -> list[Measured]:
    names = {"cublas": "cuBLAS", "flash": "torch's flash attention"}
    found = []
    for row in _read("gpu.csv"):
        factor, against = row["goal"].split()
        is_rate = against == row["rate_unit"]
        value, quartiles = (float(row["rate"]), "") if is_rate else (float(row["ratio"]), f"{float(row['low']):.2f} to {float(row['high']):.2f}")
        rate = f"{float(row['rate']):.3g} {row['rate_unit']}"
        unit = names.get(against, against)
        found.append(
            Measured(row["group"], row["dtype"], f"{row['case']}, {row['shape']}", rate, value, quartiles, float(factor), unit, row["is_met"] == "True")
        )
    return found


def _goal(goal: float, unit: str) -> str:
    return f"{goal:g} {unit}" if unit.endswith("/s") else f"{goal:g} of {unit}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _summary(measured: Sequence[Measured]) -> str:
    """A line for each group and goal."""
    groups: dict[tuple[str, float, str], list[Measured]] = {}
    for m in measured:
        groups.setdefault((m.group, m.goal, m.unit), []).append(m)
    rows = [
        [
            group,
            str(len(ms)),
            f"at least {_goal(goal, unit)}",
            str(sum(m.is_met for m in ms)),
            f"{min(m.value for m in ms):.2f} to {max(m.value for m in ms):.2f}",
        ]
        for (group, goal, unit), ms in groups.items()
    ]
    total = ["all", str(len(measured)), "", str(sum(m.is_met for m in measured)), ""]
    return _table(("group", "cases", "goal", "met", "reached"), [*rows, total])


def _misses(measured: Sequence[Measured]) -> str:
    missed = [m for m in measured if not m.is_met]
    if not missed:
        return "None.\n"
    return _table(
        ("case", "", "rate", "reached", "quartiles", "goal"), [[m.case, m.where, m.rate, f"{m.value:.3f}", m.quartiles, _goal(m.goal, m.unit)] for m in missed]
    )


def _compilation() -> str:
    """Compilations in fresh processes, in milliseconds."""
    rows = [row for row in _read("compile_time.csv") if row["what"].startswith("compile ")]
    stages = ("trace", "passes", "emission", "LLVM", "link", "front to end")
    return _table(("", *stages, "goal"), [[row["what"].removeprefix("compile "), *(f"{float(row[s]):.1f}" for s in stages), row["goal"]] for row in rows])


def _calls() -> str:
    """Calls, in microseconds."""
    rows = [row for row in _read("compile_time.csv") if row["what"].startswith("launch ")]
    return _table(
        ("call", "median", "above the empty call", "goal"), [[r["what"].removeprefix("launch "), r["microseconds"], r["above empty"], r["goal"]] for r in rows]
    )


def _launches() -> str:
    """Launches on a GPU, in microseconds of the host."""
    header = ("tensors", "call", "median", "quartiles", "above the driver")
    return _table(header, [[r["tensors"], r["call"], r["median_us"], r["quartiles_us"], r["above_driver_us"]] for r in _read("launch.csv")])


def _machine(name: str) -> str:
    row = _read(name)[0]
    return ", ".join(part for part in (row["device"], row["versions"]) if part) + "\n"


TABLES: dict[str, Callable[[], str]] = {
    "cpu machine": lambda: _machine("cpu.csv"),
    "cpu summary": lambda: _summary(_cpu()),
    "cpu misses": lambda: _misses(_cpu()),
    "compilation": _compilation,
    "calls": _calls,
    "gpu machine": lambda: _machine("gpu.csv"),
    "gpu summary": lambda: _summary(_gpu()),
    "gpu misses": lambda: _misses(_gpu()),
    "gpu launches": _launches,
}


def with_tables(text: str) -> str:
    """A page with its tables written anew. Raises KeyError for a name that no table has."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def write_tables() -> None:
    for page in sorted(PAGES.glob("*.md")):
        page.write_text(with_tables(page.read_text()))
