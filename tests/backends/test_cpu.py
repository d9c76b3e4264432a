"""A compilation for the CPU seen from outside: times, caches, what can be looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright.backends.cpu import CpuProgram, compile_for_cpu
from tilewright.backends.cpu_pipeline import generate
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


def test_a_compilation_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    first = compile_for_cpu(double.program, host_target())
    second = compile_for_cpu(double.program, host_target())
    assert not first.is_from_cache and second.is_from_cache and first.object_bytes == second.object_bytes
    assert first.times.machine_code_ms > 0 and second.times.machine_code_ms == second.times.passes_ms == 0
    assert second.generated.text == first.generated.text and len(second.slots) == len(first.slots)  # made when asked for
    monkeypatch.setenv("TILEWRIGHT_CACHE", "0")
    third = compile_for_cpu(double.program, host_target())
    assert not third.is_from_cache and third.object_bytes == first.object_bytes


def test_what_reports_goes_through_the_passes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asserts and prints are reported through tables that machine code does not hold."""
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    for _ in range(2):
        compiled = compile_for_cpu(checked.program, host_target())
        assert [a.message for a in compiled.asserts] == ["no negative numbers"]
        kernel = tilewright.compile(checked)
        kernel(np.ones(33, np.float32), np.zeros(33, np.float32))
        with refused(Kind.DEVICE_ASSERT, "no negative numbers"):
            kernel(-np.ones(33, np.float32), np.zeros(33, np.float32))
    assert compile_for_cpu(double.program, host_target()).asserts == ()


def test_passes_can_be_watched() -> None:
    records: list[PassRecord] = []
    compiled = compile_for_cpu(double.program, host_target(), records)
    assert isinstance(compiled, CpuProgram) and [r.name for r in records] == [p.__name__ for p in CPU_PASSES]
    assert records[-1].program is compiled.lowered and compiled.context.target is host_target()
    times = compiled.times
    assert times.total_ms >= times.passes_ms + times.emission_ms + times.link_ms


def test_generation_is_deterministic() -> None:
    first, second = generate(double.program, host_target()), generate(double.program, host_target())
    assert first.generated.text == second.generated.text and first.generated.entry_name == second.generated.entry_name


def test_blocks_may_share_a_byte_of_two_elements() -> None:
    count = 20_000_000  # of bytes, each written by two blocks that run at the same time

    @T.prim_func
    def kernel(A: T.Tensor((2 * count,), "uint4")):
        with T.Kernel(2) as b:
            for i in T.serial(count):
                A[i * 2 + b] = 5 + b

    compiled = tilewright.compile(kernel)
    assert "atomicrmw xor" in compiled.source
    found = np.zeros(count, np.uint8)
    compiled(found)
    assert (found == 0x65).all()
