"""What `tilewright.lower` and `kernel.artifact` give: the parts of the compiled program, the same as those of the kernel."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind


def doubling() -> Any:
    @T.prim_func
    def double(A: T.Tensor((64,), "float32"), B: T.Tensor((64,), "float32")):
        with T.Kernel(1):
            for i in T.Parallel(64):
                B[i] = A[i] * 2.0

    return double


@pytest.mark.parametrize("target", ["cpu", "sm_80", "simulate"])
def test_the_parts_are_those_of_the_kernel(target: str) -> None:
    if target == "sm_80":
        pytest.importorskip("cuda.bindings.nvrtc")
    double = doubling()
    kernel, artifact = tilewright.compile(double, target=target), tilewright.lower(double, target=target)
    assert artifact.kernel_source == kernel.get_kernel_source() == artifact.device_mod.get_source()
    assert artifact.host_mod.script() == artifact.device_mod.script() == kernel.ir("lowered")
    assert [p.name for p in artifact.params] == ["A", "B"]
    assert kernel.artifact is kernel.artifact and kernel.artifact.kernel_source == artifact.kernel_source


def test_options_are_those_of_compile() -> None:
    with refused(Kind.OUT_IDX_RANGE):
        tilewright.lower(doubling(), out_idx=2)
    with refused(Kind.NOT_A_PRIM_FUNC):
        tilewright.lower(lambda: None)
