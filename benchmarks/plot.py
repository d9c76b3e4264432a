"""`python -m benchmarks.plot`: charts of the results beside their CSVs, and the tables of `docs/performance`. `benchmarks.cpu` and `.gpu` end with it.

One chart per group. A case has a bar for ours and one for each peer, in what its rate is counted in, and a dashed line where its goal is. A peer's bar is
our rate divided by the median of the ratios, which is what goals are about, so a bar of ours that reaches the line has met the goal.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.pages import RESULTS, write_tables

_OURS = "tilewright"
_COLORS = {_OURS: "#1f77b4", "torch": "#ff7f0e", "numpy": "#2ca02c", "cublas": "#ff7f0e", "flash": "#ff7f0e", "ours, float32": "#9ecae1"}
_NAMES = {"cublas": "cuBLAS", "flash": "FlashAttention of torch"}
_INCHES_PER_BAR, _INCHES_PER_CASE, _DOTS_PER_INCH = 0.13, 0.16, 100
_BAR = 0.8  # height of all bars of a case; cases are 1 apart


@dataclass(frozen=True)
class Bars:
    """One case.

    panel   the part of the chart where it stands.
    rates   ours and those of its peers, by name; `unit` is common to a chart.
    goal    the rate that ours is to reach; None without a goal.
    """

    panel: str
    label: str
    rates: dict[str, float]
    goal: float | None
    unit: str


@dataclass
class Chart:
    """One PNG: `name` is the end of its file's name."""

    name: str
    title: str
    bars: list[Bars] = field(default_factory=list)


# What a row of cpu.csv is shown with.
_CPU_GROUPS = {
    "gemm": ("gemm", "GEMM"),
    "half": ("gemm", "GEMM"),
    "fused": ("gemm", "GEMM"),
    "skinny": ("few_rows", "GEMM of few rows"),
    "softmax": ("memory", "memory-bound"),
    "norm": ("memory", "memory-bound"),
    "attention": ("attention", "attention"),
}
_GPU_GROUPS = {
    "memory": ("memory", "memory-bound"),
    "gemm": ("gemm", "GEMM"),
    "few rows": ("few_rows", "GEMM of few rows"),
    "attention": ("attention", "attention"),
}
Row = Mapping[str, str]


def cpu_charts(rows: Sequence[Row]) -> list[Chart]:
    """Of rows as `benchmarks.cpu` writes them; a panel for each number of threads."""
    charts: dict[str, Chart] = {}
    for row in rows:
        ours = float(row["rate"])
        peers = {"torch": row["to_torch"], "numpy": row["to_numpy"], "ours, float32": row["to_fp32"]}
        rates = {_OURS: ours} | {peer: ours / float(ratio) for peer, ratio in peers.items() if ratio}
        judged = {"torch": row["to_torch"], "best": row["to_best"], "fp32": row["to_fp32"]}.get(row["goal_peer"])
        goal = ours / float(judged) * float(row["goal"]) if judged and row["goal"] else None
        label = f"{row['case']}\n{row['shape']}" + (f" {row['dtype']}" if row["dtype"] != "float32" else "")
        threads = row["threads"]
        chart = _chart(charts, _CPU_GROUPS[row["group"]], row)
        chart.bars.append(Bars(f"{threads} thread{'s' if threads != '1' else ''}", label, rates, goal, row["rate_unit"]))
    return list(charts.values())


def gpu_charts(rows: Sequence[Row]) -> list[Chart]:
    """Of rows as `benchmarks.gpu` writes them; a panel for each dtype."""
    charts: dict[str, Chart] = {}
    for row in rows:
        ours, ratio = float(row["rate"]), float(row["ratio"])
        factor, against = row["goal"].split()
        goal = float(factor) if against == row["rate_unit"] else ours / ratio * float(factor)
        rates = {_OURS: ours, row["peer"]: ours / ratio}
        chart = _chart(charts, _GPU_GROUPS[row["group"]], row)
        chart.bars.append(Bars(row["dtype"], f"{row['case']}\n{row['shape']}", rates, goal, row["rate_unit"]))
    return list(charts.values())


CHARTS: dict[str, Callable[[Sequence[Row]], list[Chart]]] = {"cpu": cpu_charts, "gpu": gpu_charts}


def _chart(charts: dict[str, Chart], group: tuple[str, str], row: Row) -> Chart:
    name, title = group
    machine = ", ".join(part for part in (row.get("device"), row.get("versions")) if part)
    return charts.setdefault(name, Chart(name, f"{title}: {machine}" if machine else title))


def draw(chart: Chart, path: Path) -> None:
    """Writes the PNG. Raises ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(bars.panel for bars in chart.bars))
    labels = list(dict.fromkeys(bars.label for bars in chart.bars))
    peers = list(dict.fromkeys(name for bars in chart.bars for name in bars.rates))
    most = max(len(bars.rates) for bars in chart.bars)
    height = 1.3 + len(labels) * (_INCHES_PER_CASE + most * _INCHES_PER_BAR)
    figure = Figure(figsize=(2.6 + 3.9 * len(panels), height), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(chart.title, fontsize=9)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_panel(axes, [bars for bars in chart.bars if bars.panel == panel], labels)
        axes.set_title(panel, fontsize=9)
    all_axes[0].set_yticks(range(len(labels)), labels, fontsize=7)
    all_axes[0].invert_yaxis()
    figure.legend(handles=_legend(peers), loc="outside lower center", ncols=len(peers) + 1, fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _draw_panel(axes: Any, cases: Sequence[Bars], labels: Sequence[str]) -> None:
    largest = max(max(*bars.rates.values(), bars.goal or 0.0) for bars in cases)
    for bars in cases:
        top, thickness = labels.index(bars.label) - _BAR / 2, _BAR / len(bars.rates)
        for number, (name, rate) in enumerate(bars.rates.items()):
            middle = top + (number + 0.5) * thickness
            axes.barh(middle, rate, thickness * 0.92, color=_COLORS[name])
            clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # of the lines that pass below
            axes.text(rate + largest * 0.01, middle, f"{rate:.3g}", va="center", fontsize=6, color="#404040", bbox=clear, zorder=3)
        if bars.goal is not None:
            axes.plot([bars.goal] * 2, [top, top + _BAR], color="black", linestyle="--", linewidth=1)
    axes.set_xlabel(cases[0].unit, fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlim(0, largest * 1.1)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _legend(names: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    bars: list[Any] = [Patch(color=_COLORS[name], label=_NAMES.get(name, name)) for name in names]
    return [*bars, Line2D([], [], color="black", linestyle="--", linewidth=1, label="goal")]


def draw_all(csv_path: Path, kind: str) -> list[Path]:
    """The charts of a CSV, beside it: `cpu.csv` gives `cpu_gemm.png` and so on. `kind` is "cpu" or "gpu". Raises ImportError without matplotlib."""
    with csv_path.open(newline="") as file:
        charts = CHARTS[kind](list(csv.DictReader(file)))
    paths = [csv_path.with_name(f"{csv_path.stem}_{chart.name}.png") for chart in charts]
    for chart, path in zip(charts, paths, strict=True):
        draw(chart, path)
    return paths


def show_everywhere(csv_path: Path, kind: str, console: Console) -> None:
    """The charts, or a line that says what they need; and the tables of the documentation, where it is the CSV that these show."""
    if csv_path.resolve().parent == RESULTS:
        write_tables()
    if importlib.util.find_spec("matplotlib") is None:
        text = "no charts: pip install 'tilewright[bench]' brings matplotlib, python -m benchmarks.plot draws them"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    for path in draw_all(csv_path, kind):
        console.print(f"drawn: {path}", highlight=False, soft_wrap=True)


@click.command()
@click.argument("kinds", nargs=-1, type=click.Choice(list(CHARTS)))
@click.option("--results", default=RESULTS, show_default="benchmarks/results", type=click.Path(path_type=Path, exists=True), help="Where the CSVs are.")
def main(kinds: tuple[str, ...], results: Path) -> None:
    """Draw the charts of cpu.csv and gpu.csv again, and write the tables of docs/performance."""
    for kind in kinds or tuple(k for k in CHARTS if (results / f"{k}.csv").exists()):
        show_everywhere(results / f"{kind}.csv", kind, Console())


if __name__ == "__main__":
    main()
