"""Targets by name, and a compilation seen from outside: times, caches, what can be looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright.driver import CPU_NAMES, GPU_NAMES, VERSION, CompiledProgram, compile_program, generate, resolve_target
from tilewright.errors import Kind
from tilewright.passes import CPU_PASSES, PassRecord
from tilewright.target.cpu import host_target


@T.prim_func
def double(A: T.Tensor((33,), "float32"), B: T.Tensor((33,), "float32")):
    with T.Kernel(1):
        for i in T.Parallel(33):
            B[i] = A[i] * 2


@T.prim_func
def checked(A: T.Tensor((33,), "float32"), B: T.Tensor((33,), "float32")):
    with T.Kernel(1):
        for i in T.Parallel(33):
            T.device_assert(A[i] >= 0, "no negative numbers")
            B[i] = A[i] * 2


@pytest.mark.parametrize("target", [*CPU_NAMES, "auto", None, {"kind": "llvm"}, {"kind": "cpu", "mcpu": "x"}, {}, host_target()])
def test_names_of_the_cpu(target: Any) -> None:
    assert resolve_target(target) is host_target()


@pytest.mark.parametrize("target", [*GPU_NAMES, "sm_90", "gfx942", {"kind": "cuda", "arch": "sm_90"}])
def test_other_devices_are_not_supported(target: Any) -> None:
    with refused(Kind.TARGET_FEATURE, 'target="cpu"'):
        resolve_target(target)


@pytest.mark.parametrize("target", ["cpuu", "x86", 3, ["cpu"]])
def test_what_is_no_target(target: Any) -> None:
    with refused(Kind.TARGET_NAME):
        resolve_target(target)


@pytest.mark.parametrize("default", ["llvm", "auto"])
def test_the_default_comes_from_the_environment(default: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_TARGET", default)
    assert resolve_target(None) is resolve_target("auto") is host_target()
    monkeypatch.setenv("TILEWRIGHT_TARGET", "cuda")
    with refused(Kind.TARGET_FEATURE):
        resolve_target(None)


def test_a_compilation_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    first = compile_program(double.program, host_target())
    second = compile_program(double.program, host_target())
    assert not first.is_from_cache and second.is_from_cache and first.object_bytes == second.object_bytes
    assert first.times.machine_code_ms > 0 and second.times.machine_code_ms == second.times.passes_ms == 0
    assert second.generated.text == first.generated.text and len(second.slots) == len(first.slots)  # made when asked for
    monkeypatch.setenv("TILEWRIGHT_CACHE", "0")
    third = compile_program(double.program, host_target())
    assert not third.is_from_cache and third.object_bytes == first.object_bytes


def test_what_reports_goes_through_the_passes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asserts and prints are reported through tables that machine code does not hold."""
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    for _ in range(2):
        compiled = compile_program(checked.program, host_target())
        assert [a.message for a in compiled.asserts] == ["no negative numbers"]
        kernel = tilewright.compile(checked)
        kernel(np.ones(33, np.float32), np.zeros(33, np.float32))
        with refused(Kind.DEVICE_ASSERT, "no negative numbers"):
            kernel(-np.ones(33, np.float32), np.zeros(33, np.float32))
    assert compile_program(double.program, host_target()).asserts == ()


def test_passes_can_be_watched() -> None:
    records: list[PassRecord] = []
    compiled = compile_program(double.program, host_target(), records)
    assert isinstance(compiled, CompiledProgram) and [r.name for r in records] == [p.__name__ for p in CPU_PASSES]
    assert records[-1].program is compiled.lowered and compiled.context.target is host_target()
    times = compiled.times
    assert times.total_ms >= times.passes_ms + times.emission_ms + times.link_ms


def test_generation_is_deterministic() -> None:
    first, second = generate(double.program, host_target()), generate(double.program, host_target())
    assert first.generated.text == second.generated.text and first.generated.entry_name == second.generated.entry_name


def test_the_version() -> None:
    assert tilewright.__version__ == VERSION
