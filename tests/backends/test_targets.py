"""What a user may write as a target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.execution import refused
from tests.runtime.mock_driver import H100, MockDriver
from tilewright.backends.targets import CPU_NAMES, UNSUPPORTED_NAMES, resolve_target
from tilewright.errors import Kind
from tilewright.runtime.cuda_driver import CudaError, NoCudaError, use_driver
from tilewright.target.cpu import host_target
from tilewright.target.nvidia import NVIDIA_TARGETS, SM_80, SM_90, SM_90A
from tilewright.target.simulated import SimulatedTarget


@pytest.mark.parametrize("target", [*CPU_NAMES, "auto", None, {"kind": "llvm"}, {"kind": "cpu", "mcpu": "x"}, {}, host_target()])
def test_names_of_the_cpu(target: Any) -> None:
    assert resolve_target(target) is host_target()


@pytest.mark.parametrize("target", [*NVIDIA_TARGETS.values(), *({"kind": "cuda", "arch": name} for name in NVIDIA_TARGETS), *NVIDIA_TARGETS])
def test_architectures_need_no_gpu(target: Any) -> None:
    with use_driver(NoCudaError("none", "")):
        found = resolve_target(target)
    assert found is NVIDIA_TARGETS[target["arch"] if isinstance(target, dict) else target if isinstance(target, str) else target.name]


def test_an_architecture_as_an_option_of_a_name() -> None:
    assert resolve_target("cuda -arch=sm_80") is SM_80
    assert resolve_target("simulate") == SimulatedTarget(SM_90A) and resolve_target({"kind": "simulate", "arch": "sm_80"}) == SimulatedTarget(SM_80)


@pytest.mark.parametrize(("capability", "wanted"), [((8, 0), "sm_80"), ((8, 7), "sm_86"), ((9, 0), "sm_90a"), ((10, 0), "sm_90"), ((12, 1), "sm_90")])
def test_cuda_is_the_gpu_of_this_machine(capability: tuple[int, int], wanted: str) -> None:
    with use_driver(MockDriver(replace(H100, capability=capability))):
        assert resolve_target("cuda") is NVIDIA_TARGETS[wanted] is resolve_target({"kind": "cuda"})


def test_cuda_without_a_gpu_that_serves() -> None:
    with use_driver(NoCudaError("the driver is missing", "install it")), refused(Kind.GPU_MISSING, "the driver is missing", "install it", "sm_80", "simulate"):
        resolve_target("cuda")
    with use_driver(MockDriver(replace(H100, name="Old", capability=(7, 5)))), refused(Kind.TARGET_FEATURE, "Old", "7.5", "sm_80"):
        resolve_target("cuda")
    with use_driver(MockDriver(broken=CudaError("cuX", "CUDA_ERROR_Y", 999))), refused(Kind.GPU_ERROR, "CUDA_ERROR_Y", "cuX"):
        resolve_target("cuda")


@pytest.mark.parametrize("target", [*UNSUPPORTED_NAMES, "sm_70", "gfx942", {"kind": "cuda", "arch": "sm_75"}, {"kind": "cuda", "arch": 90}])
def test_other_devices_are_not_supported(target: Any) -> None:
    with refused(Kind.TARGET_FEATURE, "known are"):
        resolve_target(target)


@pytest.mark.parametrize("target", ["cpuu", "x86", 3, ["cpu"], ""])
def test_what_is_no_target(target: Any) -> None:
    with refused(Kind.TARGET_NAME, "sm_90a"):
        resolve_target(target)


@pytest.mark.parametrize("default", ["llvm", "auto"])
def test_the_default_comes_from_the_environment(default: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_TARGET", default)
    assert resolve_target(None) is resolve_target("auto") is host_target()
    monkeypatch.setenv("TILEWRIGHT_TARGET", "sm_90")
    assert resolve_target(None) is SM_90
