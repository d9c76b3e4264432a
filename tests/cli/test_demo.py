"""`tilewright demo`: a right result, a wrong one, and the two forms of the table."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from tilewright.cli import demo as module
from tilewright.cli.demo import CPU_SIZES, TOLERANCES, Case, Sizes, Unit, cases, demo, measure
from tilewright.jit import compile
from tilewright.kernels import softmax
from tilewright.runtime.cuda_driver import NoCudaError, use_driver

CASE = Case(
    "softmax",
    "8x40",
    softmax.softmax,
    {"N": 40},
    (np.random.default_rng(0).standard_normal((8, 40), np.float32),),
    softmax.reference,
    lambda x: softmax.reference(x),
    lambda torch, x: torch.softmax(x, -1),
    8.0 * 8 * 40,
    Unit.BYTES,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 1)
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(module, "cases", lambda sizes: (CASE,))


def test_a_right_result_exits_with_0() -> None:
    result = CliRunner().invoke(demo)
    assert result.exit_code == 0
    header, row = result.output.splitlines()[1:3]
    assert header.split()[:4] == ["kernel", "shape", "dtype", "error"] and "vs numpy" in header
    assert row.split()[:3] == ["softmax", "8x40", "float32"] and float(row.split()[3]) <= TOLERANCES["float32"] and "GB/s" in row


@pytest.mark.parametrize("wrong", [lambda x: softmax.reference(x) + 1e-3, lambda x: softmax.reference(x) * np.nan])
def test_a_wrong_result_exits_with_1(wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cases", lambda sizes: (CASE, replace(CASE, name="other", reference=wrong)))
    result = CliRunner().invoke(demo)
    assert result.exit_code == 1
    assert "wrong: other (" in result.output and result.output.count("WRONG") == 1


@pytest.mark.parametrize(
    "per_second, unit, text",
    [
        (98.76e9, Unit.OPERATIONS, "98.8 GFLOP/s"),
        (999.4e9, Unit.OPERATIONS, "999 GFLOP/s"),
        (999.6e9, Unit.OPERATIONS, "1.00 TFLOP/s"),
        (371.3e12, Unit.OPERATIONS, "371 TFLOP/s"),
        (4.064e12, Unit.BYTES, "4.06 TB/s"),
        (24.4e9, Unit.BYTES, "24.4 GB/s"),
    ],
)
def test_rates_have_three_digits(per_second: float, unit: Unit, text: str) -> None:
    assert module._rate(per_second, unit) == text


def test_another_target_is_a_usage_error() -> None:
    assert CliRunner().invoke(demo, ["--target", "hip"]).exit_code == 2


def test_a_gpu_that_there_is_not_is_said_so() -> None:
    with use_driver(NoCudaError("no NVIDIA driver was found", "install it")):
        result = CliRunner().invoke(demo, ["--target", "cuda"])
    assert result.exit_code == 1 and "no NVIDIA driver was found" in result.output


def test_measuring_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's CPU tensors stand for those on a GPU, which is all that differs."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    monkeypatch.setattr(module, "compile", lambda prim_func, out_idx, target: compile(prim_func, out_idx=out_idx, target="cpu"))
    monkeypatch.setattr(module, "gpu_times_ms", lambda call, **_: [call() is None, 2.0, 3.0])
    result = measure(CASE, "cuda", torch)
    assert result.is_right and result.run_ms == 2.0 and result.peers_ms == {"torch": 2.0}


def test_measuring() -> None:
    result = measure(CASE, "cpu")
    assert result.is_right and list(result.peers_ms) == ["numpy"] and min(result.compile_ms, result.run_ms, result.peers_ms["numpy"]) > 0


def test_torch_is_a_peer_where_it_is_there() -> None:
    torch = pytest.importorskip("torch")
    assert list(measure(CASE, "cpu", torch).peers_ms) == ["numpy", "torch"]


def test_on_a_terminal_the_table_fits_80_characters() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    header = ("kernel", "shape", "dtype", "error", "compile ms", "run ms", "rate", "vs numpy", "vs torch")
    module._print_results(console, header, [("GEMM + bias + ReLU", "1024x1024x1024", "float32", "4.2e-07", "243*", "1189", "1238 GFLOP/s", "21.6x", "12.3x")])
    text = console.file.getvalue()
    assert "…" not in text
    assert all(cell in text for cell in ("GEMM + bias + ReLU", "1024x1024x1024 float32", "243*", "1189", "1238 GFLOP/s", "21.6x", "12.3x"))


@pytest.mark.parametrize(("value", "text"), [(0.004, "0.00"), (1.234, "1.23"), (9.996, "10.0"), (12.34, "12.3"), (99.96, "100"), (1234.5, "1234")])
def test_digits(value: float, text: str) -> None:
    assert module._three_digits(value) == text


@pytest.mark.parametrize("sizes", [CPU_SIZES, Sizes("float16", (64, 48, 32), (8, 40), (1, 32, 2, 16), "sm_80")], ids=lambda sizes: sizes.dtype)
def test_the_peers_compute_what_the_kernels_compute(sizes: Sizes) -> None:
    for case in cases(sizes):
        expected = case.reference(*case.inputs)
        tolerance = max(1e-4, 4 * float(np.finfo(sizes.dtype).eps))  # numpy rounds every step to the dtype
        assert np.abs(case.numpy_peer(*case.inputs) - expected).max() <= tolerance * np.abs(expected).max()
        assert {array.dtype for array in case.inputs} == {np.dtype(sizes.dtype)}


def test_kernels_with_the_tiles_for_gpus_are_right() -> None:
    for case in cases(Sizes("float16", (64, 48, 32), (8, 40), (1, 32, 2, 16), "sm_80")):
        program = case.factory.get_tir(**case.factory_arguments)
        assert program.program.launches[0].buffers[0].static_shape[0] in (1, 128)
        kernel = compile(program, out_idx=case.factory.out_idx, target="simulate")
        error = module._error(np.asarray(kernel(*case.inputs), np.float64), case.reference(*case.inputs))
        assert error <= case.tolerance, f"{case.name}: {error}"
