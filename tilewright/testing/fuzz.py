"""Compares a target with the reference on random programs: `python -m tilewright.testing.fuzz --count 100 --seed 1 [--jobs 2]` (floor 9).

`--cpu avx2` generates code for another processor than this machine's, where this machine can run it too; `--target simulate` goes the way of GPU code,
up to the program of one thread. A failing program is minimised and written to a file that reproduces it: `python -m tilewright.testing.fuzz --replay FILE`.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from tilewright.errors import Kind, error_of
from tilewright.jit import compile as compile_kernel
from tilewright.language import PrimFunc
from tilewright.target.cpu import PRESETS, CpuTarget, host_target
from tilewright.testing.case import Executor, Outcome, Verdict, run_case
from tilewright.testing.generate import generate
from tilewright.testing.minimise import minimise

HOST = "host"


def run_on(target: CpuTarget | str, kernel: PrimFunc, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An executor: compiles and calls; gives the tensors afterwards, by name."""
    values = [arguments[p.name] for p in kernel.program.parameters]
    compile_kernel(kernel, target=target)(*values)
    return dict(arguments)


EXECUTORS: Mapping[str, Executor] = {"cpu": functools.partial(run_on, "cpu")}
SIMULATE = "simulate"
# Threads of a GPU cannot wait for, or exchange with, those that do not come; the threads of the reference and of the CPU take turns.
GPU_REFUSALS = frozenset({Kind.DIVERGENT_BARRIER, Kind.WARP_MASK})


def runnable_presets() -> tuple[str, ...]:
    """The names of processors whose code this machine can run, this machine's own first."""
    host = host_target()
    family = host.triple.split("-")[0]
    return (HOST, *(name for name, preset in PRESETS.items() if preset.triple.split("-")[0] == family and preset.features <= host.features))


def executors_of(cpu: str) -> Mapping[str, Executor]:
    """The executors that generate code for one of `runnable_presets`, or SIMULATE.

    Raises TileError (target-name) for another name: the code would end the process with an illegal instruction.
    """
    if cpu == HOST:
        return EXECUTORS
    if cpu == SIMULATE:
        return {cpu: functools.partial(run_on, cpu)}
    if cpu not in runnable_presets():
        because = f"this machine runs code for {', '.join(runnable_presets())}"
        raise error_of(Kind.TARGET_NAME, f"code for {cpu!r} cannot be run here", because=because, help="choose one of these")
    return {cpu: functools.partial(run_on, PRESETS[cpu])}


def refusals_of(executors: Mapping[str, Executor]) -> frozenset[Kind]:
    """What the executors may say of a valid program."""
    return GPU_REFUSALS if SIMULATE in executors else frozenset()


@dataclass(frozen=True)
class Result:
    """One program's outcome; `minimal` is the smaller program that fails alike."""

    number: int
    outcome: Outcome
    source: str
    minimal: str = ""


def fuzz_one(
    seed: int, number: int, *, length: int = 8, is_minimising: bool = True, is_checking_validity: bool = False, executors: Mapping[str, Executor] = EXECUTORS
) -> Result:
    """Generates, runs and, where it fails, minimises one program."""
    source = generate(seed, number, length).source
    run = functools.partial(run_case, executors=executors, may_refuse=refusals_of(executors))
    outcome = run(source, is_checking_validity=is_checking_validity)
    if not outcome.is_failure or not is_minimising:
        return Result(number, outcome, source)
    is_wrong_result = outcome.verdict is Verdict.MISMATCH
    return Result(number, outcome, source, minimise(source, outcome, functools.partial(run, is_checking_validity=is_wrong_result)))


def fuzz(count: int, seed: int, *, first: int = 0, jobs: int = 1, **options: Any) -> Iterator[Result]:
    """Results of `count` programs in order."""
    numbers = range(first, first + count)
    if jobs <= 1:
        for number in numbers:
            yield fuzz_one(seed, number, **options)
        return
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(fuzz_one, seed, number, **options) for number in numbers]
        for number, future in zip(numbers, futures, strict=True):
            try:
                yield future.result()
            except Exception as error:  # a worker that died: a crash of generated code takes its process along
                yield Result(number, Outcome(Verdict.CRASH, "process", repr(error)), generate(seed, number, options.get("length", 8)).source)


def write_reproducer(folder: Path, seed: int, result: Result) -> Path:
    """A file that `--replay` runs, the outcome in its head."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"fuzz_{seed}_{result.number}.py"
    story = "".join(f"# {line}\n" for line in f"{result.outcome.verdict.value}: {result.outcome.detail}".splitlines())
    path.write_text(story + (result.minimal or result.source))
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code is 1 where a program failed."""
    parser = argparse.ArgumentParser(prog="python -m tilewright.testing.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="programs to run")
    parser.add_argument("--seed", type=int, default=0, help="programs of different seeds differ")
    parser.add_argument("--first", type=int, default=0, help="number of the first program")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--cpu", choices=runnable_presets(), default=HOST, help="the processor that code is generated for")
    parser.add_argument("--target", choices=("cpu", SIMULATE), default="cpu", help="what programs run on")
    parser.add_argument("--length", type=int, default=8, help="statements per launch, about")
    parser.add_argument("--output", type=Path, default=Path("fuzz-failures"), help="folder for reproducers")
    parser.add_argument("--no-minimise", action="store_true", help="write failing programs as they were generated")
    parser.add_argument("--check-generator", action="store_true", help="also show that each program has no undefined behaviour")
    parser.add_argument("--replay", type=Path, help="run one file instead")
    options = parser.parse_args(arguments)
    executors = executors_of(SIMULATE if options.target == SIMULATE else options.cpu)
    if options.replay is not None:
        outcome = run_case(options.replay.read_text(), executors, is_checking_validity=options.check_generator, may_refuse=refusals_of(executors))
        print(f"{outcome.verdict.value} {outcome.what}\n{outcome.detail}".strip())
        return int(outcome.is_failure)
    start, failures = perf_counter(), 0
    for result in fuzz(
        options.count,
        options.seed,
        first=options.first,
        jobs=options.jobs,
        length=options.length,
        is_minimising=not options.no_minimise,
        is_checking_validity=options.check_generator,
        executors=executors,
    ):
        if result.outcome.is_failure:
            failures += 1
            path = write_reproducer(options.output, options.seed, result)
            print(f"program {result.number}: {result.outcome.verdict.value} {result.outcome.what}: {path}\n{result.outcome.detail[:2000]}", flush=True)
    print(f"{options.count} programs, {failures} failures, {perf_counter() - start:.0f} s")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
