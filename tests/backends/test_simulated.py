"""The target "simulate": kernels as functions, results in the caller's tensors, what is found as errors or in a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tilewright.backends.simulated import reports_go_to
from tilewright.errors import Kind, TileError
from tilewright.sim import FindingKind, SimulationOptions, SimulationReport


def scaled(grid: int = 3, is_racy: bool = False) -> Any:
    @T.prim_func
    def kernel(X: T.Tensor((grid * 40,), "float32"), Y: T.Tensor((grid * 40,), "float32")):
        with T.Kernel(grid, threads=64) as bx:
            S = T.alloc_fragment((40,), "float32")
            T.copy(X[bx * 40], S)
            for i in T.Parallel(40):
                Y[i if is_racy else bx * 40 + i] = S[i] * 2.0

    return kernel


def test_a_kernel_writes_into_the_arrays_that_it_is_given() -> None:
    x, y = np.arange(120, dtype=np.float32), np.zeros(120, np.float32)
    assert tilewright.compile(scaled(), target="simulate")(x, y) is None
    np.testing.assert_array_equal(y, 2 * x)


def test_outputs_are_returned_as_tensors_of_the_callers_kind() -> None:
    kernel = tilewright.compile(scaled(), out_idx=[1], target="simulate")
    x = np.arange(120, dtype=np.float32)
    np.testing.assert_array_equal(kernel(x), 2 * x)
    torch = pytest.importorskip("torch")
    result = kernel(torch.from_numpy(x))
    assert isinstance(result, torch.Tensor) and torch.equal(result, torch.from_numpy(2 * x))


def test_what_is_found_is_an_error_of_the_call() -> None:
    with pytest.raises(TileError) as caught:
        tilewright.compile(scaled(is_racy=True), target="simulate")(np.arange(120, dtype=np.float32), np.zeros(120, np.float32))
    assert caught.value.diagnostic.kind is Kind.DATA_RACE and "called here" in str(caught.value)


def test_arguments_are_checked_as_for_every_target() -> None:
    with pytest.raises(TileError) as caught:
        tilewright.compile(scaled(), target="simulate")(np.ones(7, np.float32), np.zeros(120, np.float32))
    assert caught.value.diagnostic.kind is Kind.ARGUMENT_SHAPE


def test_a_report_instead_of_a_call() -> None:
    kernel = tilewright.compile(scaled(), target="simulate")
    y = np.zeros(120, np.float32)
    report = kernel.simulate(np.ones(120, np.float32), y)
    assert report.is_clean and (report.outputs["Y"] == 2).all() and not y.any()
    assert {a.buffer for a in report.accesses} == {"X", "Y"} and "sectors" in report.render()
    with pytest.raises(TileError) as caught:
        tilewright.compile(scaled(), target="cpu").simulate(y, y)
    assert caught.value.diagnostic.kind is Kind.TARGET_FEATURE


def test_reports_can_be_collected() -> None:
    found: list[tuple[str, SimulationReport]] = []
    with reports_go_to(lambda name, report: found.append((name, report)), SimulationOptions(seed=3)):
        tilewright.compile(scaled(is_racy=True), target="simulate")(np.arange(120, dtype=np.float32), np.zeros(120, np.float32))
    ((name, report),) = found
    assert name == "kernel" and {f.kind for f in report.findings} == {FindingKind.RACE}
