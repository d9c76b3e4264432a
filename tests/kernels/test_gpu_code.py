"""Kernels that ship, and those of the examples, become machine code for every architecture; the shipped ones with their GPU tiles fit the registers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import tilewright
from tilewright import kernel as kernel_module
from tilewright.cli.run import execute
from tilewright.driver import compile_program
from tilewright.ir.program import Program
from tilewright.jit import LazyFactory
from tilewright.kernels import attention, gemm, norm, softmax
from tilewright.runtime.nvrtc import is_nvrtc_installed
from tilewright.target.nvidia import NVIDIA_TARGETS, SM_80, SM_90A, NvidiaTarget

pytestmark = pytest.mark.skipif(not is_nvrtc_installed(), reason="NVRTC is not installed")
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
PRODUCT = {"M": 100, "N": 90, "K": 200}
HEADS = {"batch": 1, "heads": 2, "length_q": 65, "length_k": 130, "width": 32}
SMALL: list[tuple[str, LazyFactory, dict[str, Any]]] = [
    ("gemm", gemm.gemm, {**PRODUCT, "dtype": "float16", "activation": gemm.Activation.GELU, "block_M": 32, "block_N": 32, "block_K": 32, "stages": 3}),
    ("gemm float32", gemm.gemm, {**PRODUCT, "activation": gemm.Activation.SILU, "block_M": 32, "block_N": 32, "block_K": 16}),
    ("attention", attention.flash_attention, {**HEADS, "dtype": "bfloat16", "is_causal": True, "block_M": 64, "block_N": 32}),
    ("softmax", softmax.softmax, {"N": 300}),
    ("rms_norm", norm.rms_norm, {"N": 300, "dtype": "float16"}),
    ("layer_norm", norm.layer_norm, {"N": 300, "dtype": "bfloat16"}),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TILEWRIGHT_CHECK", "0")


def compiled_for_all(program: Program) -> Iterator[str]:
    """What is wrong with the code for each architecture, two of which are compiled at a time: NVRTC runs outside of Python's lock."""
    with ThreadPoolExecutor(2) as pool:
        for target, compiled in zip(NVIDIA_TARGETS.values(), pool.map(lambda target: compile_program(program, target), NVIDIA_TARGETS.values()), strict=True):
            if not compiled.binary.image.startswith(b"\x7fELF") or f".target {target.name}" not in compiled.ptx:
                yield f"{program.name} for {target.name}"


@pytest.mark.parametrize(("factory", "arguments"), [case[1:] for case in SMALL], ids=[case[0] for case in SMALL])
def test_kernels_that_ship_compile(factory: LazyFactory, arguments: dict[str, Any]) -> None:
    assert not list(compiled_for_all(factory.get_tir(**arguments, target="sm_80").program))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_compile(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example runs on the CPU; every program that it compiles there is then compiled for GPUs."""
    programs: list[Program] = []

    def record(program: Program, *arguments: Any, **named: Any) -> Any:
        programs.append(program)
        return compile_program(program, *arguments, **named)

    monkeypatch.setattr(kernel_module, "compile_program", record)
    execute(example, ())
    assert programs
    assert not [fault for program in programs for fault in compiled_for_all(program)]


@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        (gemm.gemm, {"M": 2048, "N": 2048, "K": 2048, "dtype": "float16"}),
        (attention.flash_attention, {**HEADS, "length_q": 1024, "length_k": 1024, "width": 64, "dtype": "float16"}),
        (softmax.softmax, {"N": 4096, "dtype": "float16"}),
        (norm.rms_norm, {"N": 4096, "dtype": "float16"}),
    ],
    ids=["gemm", "attention", "softmax", "rms_norm"],
)
@pytest.mark.parametrize("target", [SM_80, SM_90A], ids=lambda target: target.name)
def test_gpu_tiles_fit_the_registers(factory: LazyFactory, arguments: dict[str, Any], target: NvidiaTarget) -> None:
    (resources,) = tilewright.compile(factory.get_tir(**arguments, target=target), out_idx=factory.out_idx, target=target).resources()
    assert resources.spill_store_bytes == resources.stack_bytes == 0 and resources.occupancy.blocks_per_sm >= 2
