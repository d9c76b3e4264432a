"""Arrays on a GPU that are no torch tensors."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from tests.execution import refused
from tests.runtime.mock_cupy import MockCupyArray, mock_cupy
from tests.runtime.mock_driver import MockDriver
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind
from tilewright.runtime.cuda_driver import CudaError, use_driver
from tilewright.runtime.cuda_tensors import CudaInterfaceObjects, DeviceArray, DeviceArrays, address_on_gpu, cupy_framework
from tilewright.runtime.framework import NotATensorError
from tilewright.runtime.tensors import read_tensor


class OnGpu:
    """Memory that the mock driver takes for that of a device."""

    def __init__(self, **interface: Any) -> None:
        self._interface = {"shape": (3, 4), "typestr": "<f4", "data": (0x1000, False), "version": 3} | interface

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self._interface


def test_the_interface_is_read() -> None:
    with use_driver(MockDriver()):
        framework, given = read_tensor(OnGpu(strides=(32, 4)))
    assert isinstance(framework, CudaInterfaceObjects)
    assert (given.address, given.shape, given.strides, given.dtype_name, given.is_writable, given.device) == (0x1000, (3, 4), (8, 1), "float32", True, "cuda:0")
    with use_driver(MockDriver()):
        assert read_tensor(OnGpu(data=(0x1000, True)))[1].strides == (4, 1) and not read_tensor(OnGpu(data=(0x1000, True)))[1].is_writable
        assert read_tensor(OnGpu(strides=(30, 4)))[1].strides is None


def test_work_on_another_stream_is_waited_for() -> None:
    driver = MockDriver()
    with use_driver(driver):
        read_tensor(OnGpu(stream=77))
        read_tensor(OnGpu(stream=1))  # the default stream, which is current
    assert [c for c in driver.calls if c[0] == "wait_for_stream"] == [("wait_for_stream", 0, 0, 77)]


@pytest.mark.parametrize("interface", [{"data": None}, {"typestr": "?"}, {"data": (0xBAD, False)}])
def test_a_broken_interface_is_no_tensor(interface: dict[str, Any]) -> None:
    with use_driver(MockDriver()), pytest.raises(NotATensorError, match="__cuda_array_interface__"):
        read_tensor(OnGpu(**({"typestr": "nonsense"} if interface == {"typestr": "?"} else interface)))


def test_cupy_arrays_are_read_and_made() -> None:
    with mock_cupy():
        array = MockCupyArray(np.zeros((4, 6), np.float16)[:, ::2], 1)
        framework, given = read_tensor(array)
        assert (given.address, given.strides, given.dtype_name, given.device) == (array.data.ptr, (6, 2), "float16", "cuda:1")
        made = framework.allocator((2, 5), as_dtype("float32"), "cuda:2")()
        assert made.shape == (2, 5) and made.device.id == 2 and framework.address(made) == made.data.ptr
        assert framework.allocator((2, 5), as_dtype("int4"), "cuda:0")().shape == (5,) and cupy_framework() is framework


def test_the_runtime_has_arrays_of_its_own_where_no_library_has() -> None:
    driver = MockDriver()
    with use_driver(driver):
        framework = DeviceArrays()
        made = framework.allocator((2, 5), as_dtype("float32"), "cuda:1")()
        assert made.shape == (2, 5) and made.device == "cuda:1" and framework.address(made) == made.address == address_on_gpu(made)
        assert driver.calls == [("allocate", 1, 40)] and made.address in driver.blocks
        reader, given = read_tensor(made)
        assert isinstance(reader, DeviceArrays) and (given.address, given.shape, given.strides) == (made.address, (2, 5), (5, 1))
        assert (given.dtype_name, given.device) == ("float32", "cuda:1") and made.__cuda_array_interface__["data"] == (made.address, False)
        assert framework.allocator((2, 5), as_dtype("int4"))().shape == (2, 3) and framework.allocator((0, 5), as_dtype("int8"))().address == 0
        del made, given
        gc.collect()
        assert not driver.blocks


def test_an_array_of_the_runtimes_own_may_have_strides_and_margins() -> None:
    driver = MockDriver()
    with use_driver(driver):
        made = DeviceArray((2, 3), np.dtype(np.int16), 0, strides=(16, 4), margin_bytes=256)
        assert driver.calls == [("allocate", 0, 512 + 16 + 8 + 2)] and made.address == made.base + 256 and made.size_bytes == 538
        assert read_tensor(made)[1].strides == (8, 2) and made.__cuda_array_interface__["strides"] == (16, 4)
        assert DeviceArray((0, 3), np.dtype(np.int16), 0, strides=(16, 4), margin_bytes=256).size_bytes == 512


def test_memory_that_the_driver_does_not_have_is_told() -> None:
    class Full(MockDriver):
        def allocate(self, ordinal: int, size_bytes: int) -> int:
            raise CudaError("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY", 2)

    with use_driver(Full()), refused(Kind.GPU_ERROR, "allocating 40 bytes", "out of memory"):
        DeviceArrays().allocator((2, 5), as_dtype("float32"))()
