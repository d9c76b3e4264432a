"""`tilewright inspect`: which kernels of a script it finds, and what it shows of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tilewright.cli.inspect import GPU_STAGES, STAGES, inspect
from tilewright.passes import CPU_PASSES, GPU_PASSES
from tilewright.runtime.nvrtc import is_nvrtc_installed

SCRIPT = """
import tilelang
import tilelang.language as T

@T.prim_func
def double(A: T.Tensor((100,), "float32")):
    with T.Kernel(T.ceildiv(100, 64), threads=64) as bx:
        for i in T.Parallel(64):
            A[bx * 64 + i] *= 2

@tilelang.jit
def multiply(M, N=64, dtype="float32"):
    @T.prim_func
    def product(A: T.Tensor((M, 32), dtype), B: T.Tensor((32, N), dtype), C: T.Tensor((M, N), dtype)):
        with T.Kernel(1, threads=64):
            a = T.alloc_shared((M, 32), dtype)
            b = T.alloc_shared((32, N), dtype)
            c = T.alloc_fragment((M, N), "float32")
            T.copy(A, a)
            T.copy(B, b)
            T.clear(c)
            T.gemm(a, b, c)
            T.copy(c, C)
    return product

@tilelang.jit
def scale(A, factor: float, block: int = 32):
    N = T.const("N")
    A: T.Tensor((N,), "float32")
    B = T.empty((N,), "float32")
    with T.Kernel(T.ceildiv(N, block)) as bx:
        for i in T.Parallel(block):
            B[bx * block + i] = A[bx * block + i] * factor
    return B

if __name__ == "__main__":
    raise SystemExit("the main part ran")
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TILEWRIGHT_CACHE", "0")
    path = tmp_path / "kernels.py"
    path.write_text(SCRIPT)
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(inspect, arguments)


def test_every_stage_is_shown(script: Path) -> None:
    result = run(f"{script}:double")
    assert result.exit_code == 0, result.output
    headings = [line.strip("= ") for line in result.output.splitlines() if line.startswith("====")]
    assert headings[1:] == [f"double: {stage}" for stage in STAGES]
    assert [s for s in STAGES if s not in ("tile", "llvm", "assembly")] == [p.__name__ for p in CPU_PASSES]
    sections = dict(zip(headings, result.output.split("==== double")[1:], strict=True))
    assert "A[bx * 64 + i] * 2" in sections["double: tile"] and "define " in sections["double: llvm"] and ".globl" in sections["double: assembly"]
    assert "if bx * 64 + i < 100" in sections["double: guard_accesses"]


@pytest.mark.skipif(not is_nvrtc_installed(), reason="NVRTC is not installed")
def test_a_program_for_a_gpu(script: Path) -> None:
    output = run(f"{script}:multiply", "--set", "M=20", "--set", "dtype=float16", "--target", "sm_80").output
    headings = [line.strip("= ") for line in output.splitlines() if line.startswith("====")]
    assert headings == ["multiply: product for sm_80", *(f"multiply: {stage}" for stage in GPU_STAGES)]
    assert [s for s in GPU_STAGES if s not in ("tile", "cuda", "ptx")] == [p.__name__ for p in GPU_PASSES]
    assert "product_kernel on sm_80: 64 threads" in output and "__global__" in output and ".target sm_80" in output
    (row,) = [line for line in output.splitlines() if line.startswith("c  ")]
    assert row.split()[:3] == ["c", "float32", "20x64"] and "lane" in row
    assert "emission of CUDA C++" in run(f"{script}:double", "--time", "--target", "sm_90").output


def test_the_simulator_has_the_passes_of_a_gpu(script: Path) -> None:
    output = run(f"{script}:double", "--target", "simulate").output
    assert "==== double: plan_shared_memory ====" in output and "double: cuda" not in output


def test_one_stage(script: Path) -> None:
    output = run(f"{script}:double", "--stage", "tile").output
    assert "def double(A: float32[100])" in output and "define " not in output


def test_all_kernels_of_a_script_and_what_is_left_out(script: Path) -> None:
    output = run(str(script), "--stage", "tile").output
    assert "==== double: tile ====" in output
    assert "not shown: multiply needs arguments: --set M=..." in output and "not shown: scale needs arguments: --set factor=..." in output
    assert "the main part ran" not in output


def test_arguments_for_a_factory_and_the_storage_of_its_tiles(script: Path) -> None:
    output = run(f"{script}:multiply", "--set", "M=20", "--set", "dtype=float16").output
    assert "def product(A: float16[20, 32], B: float16[32, 64], C: float16[20, 64])" in output
    (row,) = [line for line in output.splitlines() if line.startswith("b  ")]
    assert row.split()[:5] == ["b", "shared", "float16", "32x64", "float32"] and "panels of" in row
    assert "kernels.py:17: b is kept in panels" in output


def test_sizes_for_an_eager_function(script: Path) -> None:
    missing = run(f"{script}:scale", "--set", "factor=2.0")
    assert missing.exit_code == 1 and "scale needs arguments: --set N=..." in missing.output
    output = run(f"{script}:scale", "--set", "factor=2.0", "--set", "N=50", "--stage", "tile").output
    assert "def scale(A: float32[50], B: float32[50] (output))" in output


def test_what_was_compiled_during_the_import_is_shown(script: Path) -> None:
    script.write_text(SCRIPT + "multiply(20)\nmultiply(24)\nkernel = tilelang.compile(double)\n")
    output = run(str(script), "--stage", "tile").output
    for heading in ("double: tile", "multiply #1: tile", "multiply #2: tile", "kernel: tile"):
        assert f"==== {heading} ====" in output


def test_times(script: Path) -> None:
    output = run(f"{script}:double", "--time").output
    rows = dict(line.rsplit(maxsplit=1) for line in output.splitlines() if line and not line.startswith("="))
    assert {"emission of LLVM IR", "machine code", "linking", "total", *(p.__name__ for p in CPU_PASSES)} <= set(rows)
    assert float(rows["total"]) >= float(rows["machine code"]) > 0
    assert "define " not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.py",), "there is no file none.py"),
        (("{script}:nothing",), "has no kernel named nothing"),
        (("{script}", "--set", "M=1"), "name it"),
        (("{script}:multiply", "--set", "M"), "--set takes NAME=VALUE"),
        (("{script}:double", "--target", "cudaa"), "there is no target 'cudaa'"),
        (("{script}:double", "--target", "simulate", "--stage", "llvm"), "has no stage llvm: it has tile, check_program"),
        (("{script}:multiply",), "multiply needs arguments: --set M=..."),
    ],
)
def test_misuse(script: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run(*(a.replace("{script}", str(script)) for a in arguments))
    assert result.exit_code == 1 and message in result.output


def test_a_mistake_in_the_script_is_shown_at_its_line(script: Path) -> None:
    script.write_text(SCRIPT.replace("*= 2", "*= T.nothing"))
    result = run(str(script))
    assert result.exit_code == 1 and "error[unknown-name]" in result.output and "kernels.py:9" in result.output
