"""NVRTC in process: machine code, resources, the cache, and what happens where it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tilewright.errors import CompilerBug, TileError
from tilewright.runtime.nvrtc import KernelResources, compile_cubin, is_nvrtc_installed, load_nvrtc, nvrtc_version, parse_resources
from tilewright.target.nvidia import SM_80, SM_90A

needs_nvrtc = pytest.mark.skipif(not is_nvrtc_installed(), reason="NVRTC is not installed")
SOURCE = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2.0f; }\n'


@needs_nvrtc
def test_a_cubin_is_an_elf_file_and_comes_from_the_cache_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    first, second = compile_cubin(SOURCE, SM_80), compile_cubin(SOURCE, SM_80)
    assert first.image[:4] == b"\x7fELF" and ".target sm_80" in first.ptx and not first.is_from_cache
    assert second.is_from_cache and (second.image, second.ptx, second.resources) == (first.image, first.ptx, first.resources)
    assert not compile_cubin(SOURCE, SM_90A).is_from_cache and not compile_cubin(SOURCE, SM_80, ("--maxrregcount=32",)).is_from_cache


@needs_nvrtc
def test_resources_are_read_from_the_log() -> None:
    made = compile_cubin(SOURCE, SM_80)
    assert set(made.resources) == {"twice"} and 0 < made.resources["twice"].registers < 32
    spilling = """
extern "C" __global__ void __launch_bounds__(1024) many(float* x, int n) {
    __shared__ float t[64];
    float v[96];
    #pragma unroll
    for (int i = 0; i < 96; ++i) v[i] = x[i * n];
    t[threadIdx.x & 63] = v[3];
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < 96; ++i) x[i * n + 1] = v[i] + v[(i * 7) % 96] + t[i & 63];
}
"""
    found = compile_cubin(spilling, SM_80).resources["many"]
    assert found.registers <= 64 and found.spill_store_bytes > 0 and found.stack_bytes > 0 and found.static_shared_bytes == 256


def test_the_log_of_ptxas() -> None:
    log = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_80'
ptxas info    : Function properties for a
    40 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 40 bytes cumulative stack size, 1024 bytes smem, 380 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_80'
ptxas info    : Function properties for b
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
"""
    assert parse_resources(log) == {"a": KernelResources(255, 12, 16, 40, 1024), "b": KernelResources(8, 0, 0, 0, 0)}


@needs_nvrtc
def test_a_source_that_is_refused_is_our_fault_and_leaves_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_REPORT_DIR", str(tmp_path))
    with pytest.raises(CompilerBug, match="NVRTC refused") as caught:
        compile_cubin("__global__ void broken( {", SM_80)
    assert caught.value.bundle is not None
    folder = Path(caught.value.bundle)
    assert folder.parent == tmp_path and (folder / "kernel.cu").read_text().startswith("__global__") and "sm_80" in (folder / "log.txt").read_text()


@needs_nvrtc
def test_a_flag_that_nvrtc_does_not_know_is_the_users() -> None:
    with pytest.raises(TileError, match="--no-such-option"):
        compile_cubin(SOURCE, SM_80, ("--no-such-option",))


def test_without_the_package_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(TileError, match=r"pip install 'tilewright\[cuda\]'"):
        load_nvrtc()
    assert not is_nvrtc_installed()


@needs_nvrtc
def test_the_version_has_two_numbers() -> None:
    assert nvrtc_version() >= (12, 0)
