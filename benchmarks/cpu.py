"""`python -m benchmarks.cpu`: our kernels against torch and numpy, in one process for each thread count.

Every result is first compared with float64. Contenders take turns in a fresh random order every round; what counts are the medians of the ratios of
each round, which a machine that others use as well disturbs least.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from benchmarks.cases import GROUPS, Case, Peer, select_cases, torch
from benchmarks.machine import describe_machine, describe_processor, describe_versions
from benchmarks.measure import Clock, Plan, Spread, measure, ratio
from benchmarks.plot import show_everywhere
from benchmarks.report import Result, print_results, print_scaling, print_settings, write_csv
from tilewright.runtime.pool import available_cpu_count, shared_pool

RESULTS = Path(__file__).resolve().parent / "results"
# Thread pools of the peers are sized when their libraries load, so each thread count has a process of its own.
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TILEWRIGHT_THREADS")
# Worker threads of OpenBLAS spin for 27 ms at 2.5 GHz after a call, those of torch less: with several threads a turn starts when they sleep.
_SETTLE_SECONDS = 0.04


class WrongResult(Exception):
    """A kernel whose result is not what float64 gives: its time means nothing."""


def run_case(case: Case, threads: int, plan: Plan) -> Result:
    """Checks and measures. Raises WrongResult."""
    contest = case.prepare()
    contest.ours()
    expected, found = contest.expected(), contest.result()
    error = float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))
    if not error <= case.tolerance:
        raise WrongResult(f"{case.name} {case.shape} {case.dtype}: the error is {error:.3g} of the largest element, allowed are {case.tolerance:.3g}")
    del expected, found
    seconds = measure({"ours": contest.ours} | {peer.value: call for peer, call in contest.peers.items()}, plan)
    ours = seconds["ours"]
    ratios = {peer: ratio(seconds[peer.value], ours) for peer in contest.peers}
    outside = [ratios[peer] for peer in (Peer.TORCH, Peer.NUMPY) if peer in ratios]
    if outside:
        ratios[Peer.BEST] = min(outside, key=lambda spread: spread.median)
    judged = ratios.get(case.goal.peer if case.goal is not None else Peer.BEST)
    ours_seconds = Spread.of(ours).median
    medians = {peer: ratios[peer].median if peer in ratios else None for peer in Peer}
    return Result(
        case.group,
        case.name,
        case.shape,
        case.dtype,
        threads,
        1e3 * ours_seconds,
        case.work / ours_seconds / 1e9,
        case.rate.value,
        medians[Peer.TORCH],
        medians[Peer.NUMPY],
        medians[Peer.FP32],
        medians[Peer.BEST],
        judged.low if judged else None,
        judged.high if judged else None,
        case.goal.factor if case.goal else None,
        case.goal.peer.value if case.goal else "",
        judged.median >= case.goal.factor if case.goal and judged else None,
        error,
        _milliseconds(seconds, Peer.TORCH),
        _milliseconds(seconds, Peer.NUMPY),
        plan.rounds,
        plan.clock.value,
        describe_processor(),
        describe_versions(),
    )


def _milliseconds(seconds: dict[str, np.ndarray], peer: Peer) -> float | None:
    return 1e3 * Spread.of(seconds[peer.value]).median if peer.value in seconds else None


def run_worker(groups: list[str], threads: int, plan: Plan, is_quick: bool) -> None:
    """Measures in this process; writes one result a line as JSON."""
    if torch is not None:
        torch.set_num_threads(threads)
    shared_pool().set_thread_count(threads)
    for case in select_cases(groups, is_quick):
        print(json.dumps(dataclasses.asdict(run_case(case, threads, plan))), flush=True)


def run_in_child(threads: int, arguments: list[str], console: Console) -> list[Result]:
    """The results of a worker process, in which all contenders have `threads` threads."""
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    command = [sys.executable, "-m", "benchmarks.cpu", "--worker", "--threads", str(threads), *arguments]
    results = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parent.parent) as child:
        assert child.stdout is not None
        for line in child.stdout:
            results.append(Result(**json.loads(line)))
            if console.is_terminal:
                console.print(f"{threads} threads: {results[-1].case} {results[-1].shape} {results[-1].dtype}: {results[-1].ours_ms:.4g} ms", highlight=False)
    if child.returncode:
        raise click.ClickException(f"the measurement with {threads} threads ended with exit code {child.returncode}; its message is above")
    return results


def _parse_groups(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
    groups = [g for g in value.split(",") if g]
    unknown = [g for g in groups if g not in GROUPS]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}; known are {', '.join(GROUPS)}")
    return groups


def _parse_threads(_context: click.Context, _parameter: click.Parameter, value: str) -> list[int]:
    try:
        counts = [int(t) for t in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers") from None
    if min(counts) < 1:
        raise click.BadParameter("a thread count is at least 1")
    return counts


@click.command()
@click.option("--only", "groups", default="", callback=_parse_groups, help=f"Groups, separated by commas: {', '.join(GROUPS)}.")
@click.option(
    "--threads", default="1,2" if available_cpu_count() > 1 else "1", show_default=True, callback=_parse_threads, help="Thread counts, separated by commas."
)
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(1), help="Rounds in which every contender has one turn.")
@click.option("--batch-ms", default=30.0, show_default=True, help="Length of one turn.")
@click.option(
    "--clock",
    default=Clock.WALL.value,
    show_default=True,
    type=click.Choice([c.value for c in Clock]),
    help="`thread`, for one thread only: the calling thread's own processor time.",
)
@click.option(
    "--csv",
    "csv_path",
    default=RESULTS / "cpu.csv",
    show_default="benchmarks/results/cpu.csv",
    type=click.Path(path_type=Path),
    help="Where the results go as CSV.",
)
@click.option("--quick", is_flag=True, help="Small shapes, without goals.")
@click.option("--seed", default=0, show_default=True, help="Of the order in which contenders take turns.")
@click.option("--worker", is_flag=True, hidden=True)
def main(groups: list[str], threads: list[int], rounds: int, batch_ms: float, clock: str, csv_path: Path, quick: bool, seed: int, worker: bool) -> None:
    """Compare kernels with torch and numpy."""
    if clock == Clock.THREAD.value and threads != [1]:
        raise click.UsageError("--clock thread sees only the calling thread: add --threads 1")
    if worker:
        plan = Plan(rounds, batch_ms / 1e3, _SETTLE_SECONDS if threads[0] > 1 else 0.0, Clock(clock), seed)
        run_worker(groups, threads[0], plan, quick)
        return
    console = Console() if sys.stdout.isatty() else Console(width=200)
    print_settings(console, describe_machine())
    arguments = [
        "--only",
        ",".join(groups),
        "--rounds",
        str(rounds),
        "--batch-ms",
        str(batch_ms),
        "--clock",
        clock,
        "--seed",
        str(seed),
        *(["--quick"] if quick else []),
    ]
    results = [result for count in threads for result in run_in_child(count, arguments, console)]
    print_results(console, results)
    print_scaling(console, results)
    write_csv(csv_path, results)
    console.print(f"written to {csv_path}", highlight=False, soft_wrap=True)
    show_everywhere(csv_path, "cpu", console)


if __name__ == "__main__":
    main()
