"""Programs for NVIDIA GPUs: compiled for real where NVRTC is installed, launched against a driver that records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused
from tests.runtime.gpu_programs import array_at
from tests.runtime.mock_cupy import mock_cupy, on_gpu
from tests.runtime.mock_driver import H100, MockDriver, MockKernel
from tilewright.backends.compiled import CompileOptions
from tilewright.backends.cuda import CudaProgram, compile_for_cuda
from tilewright.errors import Kind
from tilewright.passes import GPU_PASSES, PassRecord
from tilewright.runtime.cuda_driver import use_driver
from tilewright.runtime.disassemble import find_disassembler
from tilewright.runtime.nvrtc import is_nvrtc_installed
from tilewright.target.nvidia import SM_80, SM_90, SM_90A

pytestmark = pytest.mark.skipif(not is_nvrtc_installed(), reason="NVRTC is not installed")
n = T.dynamic("n")


@T.prim_func
def scale(A: T.Tensor((n, 64), "float32"), factor: T.float32, B: T.Tensor((n, 64), "float32")):
    with T.Kernel(T.ceildiv(n, 32), threads=128) as bx:
        for i, j in T.Parallel(32, 64):
            B[bx * 32 + i, j] = A[bx * 32 + i, j] * factor


@T.prim_func
def checked(A: T.Tensor((33,), "float32"), B: T.Tensor((33,), "float32")):
    with T.Kernel(1, threads=64):
        for i in T.Parallel(33):
            T.device_assert(A[i] >= 0, "no negative numbers")
            B[i] = T.exp(A[i])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))


def test_what_can_be_looked_at_without_a_gpu() -> None:
    with use_driver(None):
        kernel = tilewright.compile(scale, target="sm_80")
        assert "__global__" in kernel.source and re.search(r"\.target\s+sm_80\b", kernel.ptx) and repr(kernel) == "<kernel scale for sm_80>"
        assert kernel.source == kernel.get_kernel_source() and kernel.target is SM_80 and "vector" in kernel.ir("lowered") and kernel.remarks is not None
        (resources,) = kernel.resources()
        assert resources.threads == 128 and 0 < resources.registers < 256 and resources.occupancy.blocks_per_sm > 0
        assert "scale_kernel on sm_80" in str(resources)
        (other,) = kernel.resources("sm_90")
        assert other.architecture == "sm_90"
    with refused(Kind.TARGET_FEATURE, "sm_70"):
        kernel.resources("sm_70")
    with refused(Kind.TARGET_FEATURE, "no assembly"):
        assert kernel.assembly


@pytest.mark.skipif(find_disassembler() is None, reason="nvdisasm is not installed")
def test_machine_code_is_shown_as_text() -> None:
    assert "EXIT" in tilewright.compile(scale, target="sm_90").sass


def test_a_compilation_is_kept_on_disk() -> None:
    first, second = compile_for_cuda(scale.program, SM_90), compile_for_cuda(scale.program, SM_90)
    assert not first.is_from_cache and second.is_from_cache and first.binary == second.binary
    assert first.times.machine_code_ms > 0 and second.times.machine_code_ms == second.times.passes_ms == 0
    assert second.source == first.source and second.ptx == first.ptx  # made when asked for
    other = compile_for_cuda(scale.program, SM_80)
    assert not other.is_from_cache and other.binary.image != first.binary.image


def test_the_callers_options_reach_the_compiler_and_the_key() -> None:
    plain = compile_for_cuda(checked.program, SM_90)
    fast = compile_for_cuda(checked.program, SM_90, options=CompileOptions.of({tilewright.PassConfigKey.TL_ENABLE_FAST_MATH: True}, None))
    assert plain.source != fast.source
    with refused(Kind.COMPILE_FLAGS, "--no-such-option"):
        tilewright.compile(scale, target="sm_90", compile_flags=["--no-such-option"])
    assert not compile_for_cuda(scale.program, SM_90, options=CompileOptions.of({}, "-lineinfo")).is_from_cache
    assert compile_for_cuda(scale.program, SM_90, options=CompileOptions.of(None, ["-lineinfo"])).is_from_cache


def test_passes_can_be_watched() -> None:
    records: list[PassRecord] = []
    compiled = compile_for_cuda(scale.program, SM_90, records)
    assert isinstance(compiled, CudaProgram) and [r.name for r in records] == [p.__name__ for p in GPU_PASSES] and records[-1].program is compiled.lowered


@pytest.fixture
def driver() -> Iterator[MockDriver]:
    made = MockDriver(H100)
    with use_driver(made), mock_cupy():
        yield made


def test_a_call_launches_what_was_compiled(driver: MockDriver) -> None:
    kernel = tilewright.compile(scale, target="cuda", out_idx=-1)
    assert kernel.target is SM_90A
    seen: list[Any] = []

    def body(words: tuple[int, ...]) -> None:
        seen.append(words)
        np.copyto(array_at(words[2], (70, 64), np.float32), 2 * array_at(words[0], (70, 64), np.float32))

    driver.kernels = {"scale_kernel": MockKernel(4, body)}
    a = on_gpu(integers((70, 64)))
    b = kernel(a, 2.0)
    np.testing.assert_array_equal(b.array, 2 * a.array)
    assert [(c[0], c[1]) for c in driver.calls] == [("load_module", kernel.compiled.binary.image)]
    assert driver.launches[0].grid == (3, 1, 1) and seen[0][1] == 0x40000000 and seen[0][3] == 70
    kernel(a, 2.0, stream=5)
    kernel.bind(a, 2.0, stream=6)()
    assert [launch.stream for launch in driver.launches] == [0, 5, 6]
    with refused(Kind.ARGUMENT_DEVICE, "A is on the CPU, but scale runs on the GPU"):
        kernel(a.array, 2.0)


def test_a_kernel_from_the_cache_is_launched_alike(driver: MockDriver) -> None:
    driver.kernels = {"scale_kernel": MockKernel(4)}
    a = on_gpu(integers((70, 64)))
    for _ in range(2):
        tilewright.compile(scale, target="sm_90", out_idx=-1)(a, 2.0)
    assert len(driver.launches) == 2 and driver.launches[0].grid == driver.launches[1].grid and len(driver.calls) == 1


def test_what_only_a_gpu_has() -> None:
    kernel = tilewright.compile(scale, target="cpu")
    for use in (lambda: kernel.bind(1), lambda: kernel(1, 1.0, 1, stream=0)):
        with refused(Kind.TARGET_FEATURE, "NVIDIA GPU"):
            use()


def test_code_for_an_older_architecture_is_assembled_for_the_device(driver: MockDriver) -> None:
    driver.kernels = {"scale_kernel": MockKernel(4)}
    kernel = tilewright.compile(scale, target="sm_80", out_idx=-1)
    kernel(on_gpu(integers((70, 64))), 1.0)
    ((_, image, _),) = driver.calls
    assert image != kernel.compiled.binary.image
    assert kernel.compiled.image_for(replace(H100, capability=(8, 6))) is kernel.compiled.binary.image


@pytest.mark.parametrize(("target", "capability"), [("sm_90", (8, 0)), ("sm_90a", (10, 0)), ("sm_89", (8, 6))])
def test_code_that_cannot_run_on_the_device_is_refused(target: str, capability: tuple[int, int]) -> None:
    kernel = tilewright.compile(scale, target=target)
    with refused(Kind.TARGET_FEATURE, f"compiled for {target}", ".".join(map(str, capability))):
        kernel.compiled.image_for(replace(H100, capability=capability))


def test_asserts_are_numbered_by_the_passes(driver: MockDriver) -> None:
    kernel = tilewright.compile(checked, target="sm_90")
    driver.kernels = {"checked_kernel": MockKernel(3, lambda words: array_at(words[2], (1,), np.int32).__setitem__(0, 1))}
    with refused(Kind.DEVICE_ASSERT, "no negative numbers"):
        kernel(on_gpu(np.ones(33, np.float32)), on_gpu(np.ones(33, np.float32)))


def test_eager_functions_run_where_their_tensors_are(driver: MockDriver) -> None:
    @tilewright.jit
    def twice(A):
        M = T.const("M")
        A: T.Tensor((M,), "float32")
        B = T.empty((M,), "float32")
        with T.Kernel(T.ceildiv(M, 32), threads=32) as bx:
            for i in T.Parallel(32):
                B[bx * 32 + i] = A[bx * 32 + i] * 2
        return B

    driver.kernels = {"twice_kernel": MockKernel(2)}
    assert type(twice(on_gpu(integers((64,))))).__name__ == "MockCupyArray" and len(driver.launches) == 1
    np.testing.assert_array_equal(twice(np.ones(64, np.float32)), np.full(64, 2, np.float32))
    assert len(driver.launches) == 1


def test_nothing_is_compiled_while_a_graph_is_captured() -> None:
    with use_driver(MockDriver(capturing=True)), refused(Kind.GRAPH_CAPTURE, "scale was compiled"):
        tilewright.compile(scale, target="sm_90")


def test_a_kernel_for_a_gpu_is_simulated_without_one() -> None:
    kernel = tilewright.compile(checked, out_idx=[1], target="sm_80")
    a = np.linspace(0, 1, 33, dtype=np.float32)
    report = kernel.simulate(a)
    assert not report.findings
    np.testing.assert_allclose(report.outputs["B"], np.exp(a), rtol=1e-5)
    (finding,) = kernel.simulate(a - 0.5).findings
    assert "no negative numbers" in finding.diagnostic.message
    with refused(Kind.TARGET_FEATURE, "only kernels for an NVIDIA GPU or the simulator have it"):
        tilewright.compile(checked, out_idx=[1]).simulate(a)
