"""What a GPU says of itself, and what is said without one."""

from __future__ import annotations

import pytest

from tests.execution import refused
from tests.runtime.mock_driver import H100, MockDriver
from tilewright.carver.arch import CUDA, driver
from tilewright.errors import Kind
from tilewright.runtime.cuda_driver import CudaError, NoCudaError, use_driver


def test_a_gpu_is_described() -> None:
    with use_driver(MockDriver()):
        assert driver.get_num_sms() == H100.multiprocessors and driver.get_device_name(0) == "Mock H100"
        assert driver.get_shared_memory_per_block() == H100.shared_bytes_per_block
        with refused(Kind.OPTION_VALUE, "get_num_sms was asked for GPU 7"):
            driver.get_num_sms(7)
        assert CUDA().target.name.startswith("sm_90")


@pytest.mark.parametrize("ask", [driver.get_num_sms, driver.get_device_name, driver.get_shared_memory_per_block, CUDA])
def test_without_a_gpu_or_with_a_broken_one(ask: object) -> None:
    with use_driver(NoCudaError("no NVIDIA driver was found", "install the NVIDIA driver")), refused(Kind.GPU_MISSING):
        ask()  # type: ignore[operator]
    broken = MockDriver(broken=CudaError("cuDeviceGetAttribute", "CUDA_ERROR_UNKNOWN", 999))
    with use_driver(broken), refused(Kind.GPU_ERROR):
        ask()  # type: ignore[operator]
