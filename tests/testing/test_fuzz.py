"""The fuzzer: the compiler passes, and a planted miscompile is found and made small."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import tilewright.testing.fuzz as fuzz_module
from tests.execution import refused
from tilewright.errors import Kind, error_of
from tilewright.ir.stmt import Stmt
from tilewright.ir.visit import rewrite
from tilewright.jit import compile as compile_kernel
from tilewright.language import PrimFunc
from tilewright.ops.scan import Scan
from tilewright.reference import run_reference
from tilewright.runtime.cuda_driver import NoCudaError, use_driver
from tilewright.target.cpu import CpuTarget
from tilewright.testing.case import Outcome, Verdict, load_case, run_case
from tilewright.testing.fuzz import (
    CUDA,
    SIMULATE,
    Result,
    Tally,
    Trial,
    executors_of,
    fuzz,
    fuzz_one,
    main,
    refusals_of,
    runnable_presets,
    write_reproducer,
)
from tilewright.testing.generate import generate
from tilewright.testing.workers import EndOfProcess


@pytest.mark.parametrize("start", range(0, 30, 6))
def test_the_compiler_agrees_with_the_reference(start: int) -> None:
    failures = [r for r in fuzz(6, 20, first=start, is_minimising=False) if r.outcome.is_failure]
    assert not failures, failures[0].outcome.detail + "\n" + failures[0].source


@pytest.mark.parametrize("start", range(0, 100, 20))
def test_programs_for_gpus_agree_with_the_reference(start: int) -> None:
    failures = [r for r in fuzz(20, 23, first=start, is_minimising=False, length=4, executors=executors_of(SIMULATE)) if r.outcome.is_failure]
    assert not failures, failures[0].outcome.detail + "\n" + failures[0].source


def test_what_gpus_cannot_do_is_no_failure_there() -> None:
    source = """import tilewright.language as T
@T.prim_func
def kernel(X: T.Tensor((32,), 'int32')):
    with T.Kernel(1, threads=32):
        tx = T.get_thread_binding(0)
        s = T.alloc_shared((32,), 'int32')
        s[tx] = X[tx]
        if X[tx] > 0:
            s[tx] = s[31 - tx] + 1
            X[tx] = s[31 - tx]
"""
    executors = executors_of(SIMULATE)
    assert run_case(source, executors).verdict is Verdict.REFUSED
    assert not refusals_of(executors_of("host"))
    for target in (SIMULATE, "sm_80"):
        executors = executors_of(target)
        outcome = run_case(source, executors, may_refuse=refusals_of(executors))
        assert (outcome.verdict, outcome.what) == (Verdict.UNSUPPORTED, "divergent-barrier") and not outcome.is_failure


def miscompiled(kernel: PrimFunc, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """A compiler that loses the direction of scans."""

    def forward(stmt: Stmt) -> Stmt:
        return dataclasses.replace(stmt, is_reverse=False) if isinstance(stmt, Scan) else stmt

    launches = tuple(dataclasses.replace(launch, body=rewrite(launch.body, post=forward)) for launch in kernel.program.launches)
    return run_reference(dataclasses.replace(kernel.program, launches=launches), arguments)


def test_a_planted_miscompile_is_found_and_minimised(tmp_path: Path) -> None:
    executors = {"miscompiled": miscompiled}
    scanning = (n for n in range(400) if "reverse=True" in generate(1, n, 4).source)
    found = next(n for n in scanning if fuzz_one(1, n, length=4, is_minimising=False, executors=executors).outcome.is_failure)
    result = fuzz_one(1, found, length=4, executors=executors)
    assert result.outcome.verdict is Verdict.MISMATCH
    kernel = result.minimal[result.minimal.index("@T.prim_func") :]
    assert "reverse=True" in kernel and len(kernel.splitlines()) <= 14, kernel
    path = write_reproducer(tmp_path, 1, result)
    assert run_case(path.read_text(), executors).verdict is Verdict.MISMATCH
    assert main(["--replay", str(path)]) == 0  # the compiler itself is right


def test_every_processor_that_this_machine_can_be_agrees_with_the_reference() -> None:
    presets = runnable_presets()
    assert presets[0] == "host" and len(presets) >= 2 and not {"neon", "generic-128"} <= set(presets)
    for cpu in presets:
        executors = executors_of(cpu)
        assert not [r.outcome.detail for r in fuzz(3, 21, is_minimising=False, length=4, executors=executors) if r.outcome.is_failure]


def test_a_processor_is_what_code_is_generated_for() -> None:
    source = generate(20, 0, 4).source
    preset = runnable_presets()[1]
    (executor,) = executors_of(preset).values()
    case = load_case(source)
    compiled: list[str] = []

    def recording(kernel: PrimFunc, target: CpuTarget) -> Any:
        made = compile_kernel(kernel, target=target)
        compiled.append(made.target.name)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzz_module, "compile_kernel", recording)
        executor(case.kernel, case.arguments())
    assert compiled == [preset]


def test_code_that_this_machine_cannot_run_is_refused() -> None:
    with refused(Kind.TARGET_NAME, "'neon'" if "neon" not in runnable_presets() else "'avx2'", "this machine runs code for host"):
        executors_of("neon" if "neon" not in runnable_presets() else "avx2")
    with pytest.raises(SystemExit):
        main(["--cpu", "z80"])


def test_programs_are_only_compiled_for_an_architecture() -> None:
    source = generate(20, 0, 4).source
    asked: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzz_module, "compile_kernel", lambda kernel, target: asked.append(target))
        assert run_case(source, executors_of("sm_80")).verdict is Verdict.PASSED and asked == ["sm_80"]


def test_outcomes_are_told_apart_in_the_summary() -> None:
    tally = Tally()
    verdicts = [(Verdict.PASSED, ""), (Verdict.UNSUPPORTED, "warp-mask"), (Verdict.UNSUPPORTED, "shared-memory-exceeded"), (Verdict.UNSUPPORTED, "warp-mask")]
    for number, (verdict, what) in enumerate([*verdicts, (Verdict.MISMATCH, "Y"), (Verdict.DEVICE, "")]):
        tally.add(Result(number, Outcome(verdict, what), ""))
    assert str(tally) == "6 programs, 1 agreed, 3 refused (warp-mask 2, shared-memory-exceeded 1), 2 failures"


def test_processes_share_the_programs_and_a_failure_is_told_before_it_is_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--count", "3", "--seed", "20", "--length", "3", "--jobs", "2"]) == 0
    assert "cpu: 3 programs, 3 agreed, 0 refused, 0 failures" in capsys.readouterr().out
    assert main(["--count", "1000", "--seed", "20", "--jobs", "1", "--time-limit-seconds", "0.1"]) == 0
    assert "cpu: 0 programs" in capsys.readouterr().out
    executors = {"miscompiled": miscompiled}
    found = next(
        n
        for n in range(400)
        if "reverse=True" in generate(1, n, 4).source and fuzz_one(1, n, length=4, is_minimising=False, executors=executors).outcome.is_failure
    )
    first, second = Trial(1, 4).results(found, executors)
    assert first.outcome == second.outcome and not first.minimal and "reverse=True" in second.minimal


def test_a_process_with_a_lost_device_ends() -> None:
    def lost(kernel: PrimFunc, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        raise error_of(Kind.GPU_ERROR, "gone", because="", help="")

    results = Trial(20, 3).results(0, {CUDA: lost})
    assert next(results).outcome.verdict is Verdict.DEVICE
    with pytest.raises(EndOfProcess):
        next(results)


def test_without_a_gpu_nothing_is_run_on_one() -> None:
    with use_driver(NoCudaError("no NVIDIA driver was found", "install it")), refused(Kind.GPU_MISSING, "a run on GPUs needs an NVIDIA GPU"):
        main(["--target", "cuda", "--count", "1"])


def test_the_command_line_counts_failures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--count", "2", "--seed", "20", "--length", "4", "--output", str(tmp_path / "none")]) == 0
    assert "cpu: 2 programs, 2 agreed, 0 refused, 0 failures" in capsys.readouterr().out and not (tmp_path / "none").exists()
    broken = tmp_path / "broken.py"
    broken.write_text("import tilewright.language as T\n@T.prim_func\ndef kernel(X: T.Tensor((4,), 'float32')):\n    with T.Kernel(1):\n        T.claer(X)\n")
    assert main(["--replay", str(broken)]) == 1
    assert "unknown-name" in capsys.readouterr().out
