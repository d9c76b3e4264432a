"""Modules on devices: loaded once, prepared once per kernel; calls are in test_cuda_calls.py."""

from __future__ import annotations

from tests.execution import refused
from tests.runtime.mock_driver import MockDriver, MockKernel
from tilewright.errors import Kind
from tilewright.runtime.cuda_driver import CudaError, GpuDevice, use_driver
from tilewright.runtime.cuda_modules import KernelNeeds, registry_of


def test_equal_images_are_one_module() -> None:
    driver = MockDriver(kernels={"k": MockKernel(0)})
    registry = registry_of(driver)
    assert registry_of(driver) is registry
    with use_driver(driver):
        first = registry.load("a", 0, lambda device: b"same", [KernelNeeds("k", 0)])
        second = registry.load("b", 0, lambda device: b"same", [KernelNeeds("k", 0)])
        third = registry.load("c", 0, lambda device: b"other", [KernelNeeds("k", 0)])
    assert first == second != third and len([c for c in driver.calls if c[0] == "load_module"]) == 2 and driver.stack == []


def test_a_refused_image_leaves_the_context_as_it_was() -> None:
    class Refusing(MockDriver):
        def load_module(self, image: bytes) -> int:
            raise CudaError("cuModuleLoadData", "CUDA_ERROR_NO_BINARY_FOR_GPU", 209)

    driver = Refusing()
    with use_driver(driver), refused(Kind.GPU_ERROR, "loading a on Mock H100 gave CUDA_ERROR_NO_BINARY_FOR_GPU"):
        registry_of(driver).load("a", 0, lambda device: b"", [])
    assert driver.context == 0x100 and driver.stack == []


def test_the_image_is_asked_for_by_device() -> None:
    driver, asked = MockDriver(), list[GpuDevice]()
    with use_driver(driver):
        registry_of(driver).load("a", 0, lambda device: asked.append(device) or b"x", [])
    assert asked == [driver.found[0]]
