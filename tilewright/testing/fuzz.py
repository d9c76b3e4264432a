"""Compares a target with the reference on random programs: `python -m tilewright.testing.fuzz --count 100 --seed 1 [--jobs 2]` (floor 9).

`--target` says what programs run on: the CPU; `simulate`, which goes the way of GPU code up to the program of one thread; `cuda`, the GPUs of this
machine, over which the processes are spread; or an architecture such as `sm_80`, for which programs are only compiled. `--cpu avx2` generates code for
another processor than this machine's, where this machine can run it too. A failing program is minimised and written to a file that reproduces it:
`python -m tilewright.testing.fuzz --replay FILE`.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from tilewright.errors import Kind, error_of
from tilewright.jit import compile as compile_kernel
from tilewright.language import PrimFunc
from tilewright.runtime.cuda_driver import require_driver
from tilewright.target.cpu import PRESETS, CpuTarget, host_target
from tilewright.target.nvidia import NVIDIA_TARGETS
from tilewright.testing.case import Executor, Outcome, Verdict, run_case
from tilewright.testing.generate import generate
from tilewright.testing.gpu_arrays import run_on_gpu
from tilewright.testing.minimise import minimise
from tilewright.testing.workers import EndOfProcess, Lost, spread

HOST, SIMULATE, CUDA = "host", "simulate", "cuda"


def run_on(target: CpuTarget | str, kernel: PrimFunc, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An executor: compiles and calls; gives the tensors afterwards, by name."""
    values = [arguments[p.name] for p in kernel.program.parameters]
    compile_kernel(kernel, target=target)(*values)
    return dict(arguments)


def only_compile(target: str, kernel: PrimFunc, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An executor without results."""
    compile_kernel(kernel, target=target)
    return {}


EXECUTORS: Mapping[str, Executor] = {"cpu": functools.partial(run_on, "cpu")}
# Threads of a GPU cannot wait for, or exchange with, those that do not come; the threads of the reference and of the CPU take turns.
GPU_REFUSALS = frozenset({Kind.DIVERGENT_BARRIER, Kind.WARP_MASK})
# What only the back end of a real GPU asks for.
DEVICE_REFUSALS = GPU_REFUSALS | {Kind.SHARED_MEMORY_EXCEEDED, Kind.TARGET_FEATURE}


def runnable_presets() -> tuple[str, ...]:
    """The names of processors whose code this machine can run, this machine's own first."""
    host = host_target()
    family = host.triple.split("-")[0]
    return (HOST, *(name for name, preset in PRESETS.items() if preset.triple.split("-")[0] == family and preset.features <= host.features))


def executors_of(name: str, ordinal: int = 0) -> Mapping[str, Executor]:
    """The executors that generate code for one of `runnable_presets`, for SIMULATE, for the GPU CUDA of that ordinal, or only for an architecture.

    Raises TileError (target-name) for another name: the code would end the process with an illegal instruction.
    """
    if name == HOST:
        return EXECUTORS
    if name == SIMULATE:
        return {name: functools.partial(run_on, name)}
    if name == CUDA:
        return {name: functools.partial(run_on_gpu, ordinal, name)}
    if name in NVIDIA_TARGETS:
        return {name: functools.partial(only_compile, name)}
    if name not in runnable_presets():
        because = f"this machine runs code for {', '.join(runnable_presets())}"
        raise error_of(Kind.TARGET_NAME, f"code for {name!r} cannot be run here", because=because, help="choose one of these")
    return {name: functools.partial(run_on, PRESETS[name])}


def refusals_of(executors: Mapping[str, Executor]) -> frozenset[Kind]:
    """What the executors may say of a valid program."""
    if CUDA in executors or not executors.keys().isdisjoint(NVIDIA_TARGETS):
        return DEVICE_REFUSALS
    return GPU_REFUSALS if SIMULATE in executors else frozenset()


@dataclass(frozen=True)
class Result:
    """One program's outcome; `minimal` is the smaller program that fails alike."""

    number: int
    outcome: Outcome
    source: str
    minimal: str = ""


@dataclass(frozen=True)
class Trial:
    """What is done with each program; `length` is the number of its statements, about."""

    seed: int
    length: int = 8
    is_minimising: bool = True
    is_checking_validity: bool = False

    def source(self, number: int) -> str:
        return generate(self.seed, number, self.length).source

    def results(self, number: int, executors: Mapping[str, Executor] = EXECUTORS) -> Iterator[Result]:
        """Generates and runs one program, and where it fails gives a second result with the minimised program."""
        source = self.source(number)
        run = functools.partial(run_case, executors=executors, may_refuse=refusals_of(executors))
        outcome = run(source, is_checking_validity=self.is_checking_validity)
        yield Result(number, outcome, source)
        if outcome.verdict is Verdict.DEVICE:
            raise EndOfProcess
        if outcome.is_failure and self.is_minimising:

            def smaller(text: str) -> Outcome:
                found = run(text, is_checking_validity=outcome.verdict is Verdict.MISMATCH)
                if found.verdict is Verdict.DEVICE:
                    raise EndOfProcess
                return found

            yield Result(number, outcome, source, minimise(source, outcome, smaller))


def fuzz_one(seed: int, number: int, *, executors: Mapping[str, Executor] = EXECUTORS, **options: Any) -> Result:
    """The last result of one program; options are those of a Trial."""
    return list(Trial(seed, **options).results(number, executors))[-1]


def fuzz(count: int, seed: int, *, first: int = 0, executors: Mapping[str, Executor] = EXECUTORS, **options: Any) -> Iterator[Result]:
    """The last results of `count` programs, in order, in this process."""
    for number in range(first, first + count):
        yield fuzz_one(seed, number, executors=executors, **options)


def fuzz_in_processes(count: int, trial: Trial, target: str, *, first: int = 0, jobs: int = 1, time_limit_seconds: float | None = None) -> Iterator[Result]:
    """The results of `count` programs as they come; one that failed may have a second, with the minimised program.

    The processes of CUDA take turns on the GPUs of this machine. Those that the time limit cuts off have no result.
    """
    devices = len(require_driver("a run on GPUs").devices()) if target == CUDA else 1
    work = functools.partial(_work, trial, target, devices)
    for number, found in spread(range(first, first + count), jobs, work, time_limit_seconds=time_limit_seconds):
        if isinstance(found, Lost):  # a crash of generated code takes its process along
            story = found.loss.value + ("" if found.exit_code is None else f" with exit code {found.exit_code}")
            yield Result(number, Outcome(Verdict.CRASH, found.loss.value, story), trial.source(number))
        else:
            yield found


def _work(trial: Trial, target: str, devices: int, job: int, number: int) -> Iterator[Result]:
    return trial.results(number, executors_of(target, job % devices))


def write_reproducer(folder: Path, seed: int, result: Result) -> Path:
    """A file that `--replay` runs, the outcome in its head."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"fuzz_{seed}_{result.number}.py"
    story = "".join(f"# {line}\n" for line in f"{result.outcome.verdict.value}: {result.outcome.detail}".splitlines())
    path.write_text(story + (result.minimal or result.source))
    return path


@dataclass
class Tally:
    """What became of the programs so far."""

    agreed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failed: set[int] = field(default_factory=set)

    def add(self, result: Result) -> None:
        match result.outcome.verdict:
            case Verdict.PASSED:
                self.agreed += 1
            case Verdict.UNSUPPORTED:
                self.refused[result.outcome.what] += 1
            case _:
                self.failed.add(result.number)

    def __str__(self) -> str:
        count = self.agreed + self.refused.total() + len(self.failed)
        kinds = f" ({', '.join(f'{kind} {n}' for kind, n in self.refused.most_common())})" if self.refused else ""
        return f"{count} programs, {self.agreed} agreed, {self.refused.total()} refused{kinds}, {len(self.failed)} failures"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code is 1 where a program failed."""
    parser = argparse.ArgumentParser(prog="python -m tilewright.testing.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="programs to run")
    parser.add_argument("--seed", type=int, default=0, help="programs of different seeds differ")
    parser.add_argument("--first", type=int, default=0, help="number of the first program")
    parser.add_argument("--jobs", type=int, default=0, help="processes; 0 runs all in this one, which a crash of generated code ends")
    parser.add_argument("--time-limit-seconds", type=float, help="ends by then, with however many programs have run")
    parser.add_argument("--cpu", choices=runnable_presets(), default=HOST, help="the processor that code is generated for")
    parser.add_argument("--target", choices=("cpu", SIMULATE, CUDA, *NVIDIA_TARGETS), default="cpu", help="what programs run on, or are only compiled for")
    parser.add_argument("--length", type=int, default=8, help="statements per launch, about")
    parser.add_argument("--output", type=Path, default=Path("fuzz-failures"), help="folder for reproducers")
    parser.add_argument("--no-minimise", action="store_true", help="write failing programs as they were generated")
    parser.add_argument("--check-generator", action="store_true", help="also show that each program has no undefined behaviour")
    parser.add_argument("--replay", type=Path, help="run one file instead")
    options = parser.parse_args(arguments)
    target = options.cpu if options.target == "cpu" else options.target
    if options.replay is not None:
        executors = executors_of(target)
        outcome = run_case(options.replay.read_text(), executors, is_checking_validity=options.check_generator, may_refuse=refusals_of(executors))
        print(f"{outcome.verdict.value} {outcome.what}\n{outcome.detail}".strip())
        return int(outcome.is_failure)
    trial = Trial(options.seed, options.length, not options.no_minimise, options.check_generator)
    if target == CUDA:
        require_driver("a run on GPUs")
    start, tally = perf_counter(), Tally()
    for result in _results(options, trial, target):
        if not result.minimal:
            tally.add(result)
        if result.outcome.is_failure:
            path = write_reproducer(options.output, options.seed, result)
            if not result.minimal:
                print(f"program {result.number}: {result.outcome.verdict.value} {result.outcome.what}: {path}\n{result.outcome.detail[:2000]}", flush=True)
    print(f"{options.target if options.cpu == HOST else options.cpu}: {tally}, {perf_counter() - start:.0f} s")
    return int(bool(tally.failed))


def _results(options: argparse.Namespace, trial: Trial, target: str) -> Iterator[Result]:
    limit = options.time_limit_seconds
    if options.jobs > 0:
        yield from fuzz_in_processes(options.count, trial, target, first=options.first, jobs=options.jobs, time_limit_seconds=limit)
        return
    deadline = monotonic() + (math.inf if limit is None else limit)
    for number in range(options.first, options.first + options.count):
        if monotonic() >= deadline:
            return
        try:
            yield from trial.results(number, executors_of(target))
        except EndOfProcess:
            return


if __name__ == "__main__":
    sys.exit(main())
