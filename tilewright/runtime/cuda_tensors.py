"""Arrays in the memory of a GPU that are no torch tensors (floor 7): cupy's, objects with `__cuda_array_interface__`, and the runtime's own.

Source of the interface: Numba documentation, "CUDA Array Interface (Version 3)".
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from tilewright.dtypes import DType
from tilewright.runtime.cuda_driver import CudaError, NoCudaError, fail_driver, find_driver
from tilewright.runtime.cuda_streams import current_stream
from tilewright.runtime.dlpack import CUDA_DEVICE_TYPES, row_major
from tilewright.runtime.framework import Framework, GivenTensor, NotATensorError, numpy_dtype_name, packed_shape
from tilewright.runtime.torch_tensors import torch_framework


class CupyArrays(Framework):
    """cupy.ndarray."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy

    def describe(self, argument: Any) -> GivenTensor:
        return _described(argument.data.ptr, argument.shape, argument.strides, argument.dtype, True, f"cuda:{argument.device.id}", argument)

    def address(self, output: Any) -> int:
        return int(output.data.ptr)

    def allocator(self, shape: tuple[int, ...], dtype: DType, device: str = "cuda:0") -> Callable[[], Any]:
        given, element = ((math.prod(shape) + 1) // 2, np.uint8) if dtype.is_packed else (shape, dtype.numpy)

        def allocate() -> Any:
            with self._cupy.cuda.Device(int(device.split(":")[1])):
                return self._cupy.empty(given, element)

        return allocate


class DeviceArray:
    """Memory on a GPU, for programs without a library that has such arrays; torch, cupy and numba take it over by `__cuda_array_interface__`.

    strides              in bytes, none negative; None where the elements lie in row-major order without gaps.
    margin_bytes         memory before the first element and behind the last, a multiple of 256.
    base, size_bytes     all the memory, margins included.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], ordinal: int, *, strides: tuple[int, ...] | None = None, margin_bytes: int = 0) -> None:
        self.shape, self.dtype, self.device, self.strides = shape, dtype, f"cuda:{ordinal}", strides
        count = math.prod(shape)
        if strides is None or not count:
            reach_bytes = count * dtype.itemsize
        else:
            reach_bytes = dtype.itemsize + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        driver, self.size_bytes = find_driver(), reach_bytes + 2 * margin_bytes
        try:
            self.base = driver.allocate(ordinal, self.size_bytes) if self.size_bytes else 0
        except CudaError as error:
            fail_driver(error, f"allocating {self.size_bytes} bytes")
        self.address = self.base + margin_bytes
        if self.base:
            # At the end of the process the driver is gone, and the memory with it.
            weakref.finalize(self, driver.free, ordinal, self.base).atexit = False

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "version": 3, "strides": self.strides, "stream": None}

    def __repr__(self) -> str:
        return f"<DeviceArray {self.shape} {numpy_dtype_name(self.dtype)} on {self.device}>"


class CudaInterfaceObjects(Framework):
    """Objects that offer `__cuda_array_interface__`. What a call returns to them belongs to torch or cupy, or is a DeviceArray where neither is installed."""

    def describe(self, argument: Any) -> GivenTensor:
        if isinstance(argument, DeviceArray):
            return _described(argument.address, argument.shape, argument.strides, argument.dtype, True, argument.device, argument)
        try:
            interface = argument.__cuda_array_interface__
            address, is_read_only = interface["data"]
            dtype, shape = np.dtype(interface["typestr"]), tuple(map(int, interface["shape"]))
        except Exception as error:
            raise NotATensorError(f"an object whose __cuda_array_interface__ cannot be read ({type(error).__name__}: {error})") from None
        ordinal = 0
        try:
            driver = find_driver()
            found = driver.pointer_device(address) if address else 0
            if found is None:
                raise NotATensorError("an object whose __cuda_array_interface__ names memory that is on no GPU")
            ordinal, stream = found, interface.get("stream")
            if stream is not None and stream != (current_stream(ordinal) or 1):
                driver.wait_for_stream(ordinal, current_stream(ordinal), int(stream))
        except NoCudaError:
            pass  # described all the same, so that a kernel for the CPU can say why it cannot take it
        return _described(int(address), shape, interface.get("strides"), dtype, not is_read_only, f"cuda:{ordinal}", argument)

    def address(self, output: Any) -> int:
        return address_on_gpu(output)

    def allocator(self, shape: tuple[int, ...], dtype: DType, device: str = "cuda:0") -> Callable[[], Any]:
        return gpu_framework().allocator(shape, dtype, device)


class DeviceArrays(CudaInterfaceObjects):
    """The runtime's own arrays."""

    def allocator(self, shape: tuple[int, ...], dtype: DType, device: str = "cuda:0") -> Callable[[], Any]:
        given, element = (packed_shape(shape), np.dtype(np.uint8)) if dtype.is_packed else (shape, dtype.numpy)
        return functools.partial(DeviceArray, given, element, int(device.split(":")[1]))


def _described(address: int, shape: Any, strides: Any, dtype: np.dtype[Any], is_writable: bool, device: str, owner: object) -> GivenTensor:
    size = dtype.itemsize or 1
    elements = row_major(shape) if strides is None else tuple(s // size for s in strides) if all(s % size == 0 for s in strides) else None
    return GivenTensor(int(address), tuple(shape), elements, numpy_dtype_name(dtype), is_writable, device, owner)


def is_on_gpu(value: Any) -> bool:
    """Whether an argument is a tensor in the memory of an NVIDIA GPU."""
    if isinstance(value, (np.ndarray, int, float)):
        return False
    is_cuda = getattr(value, "is_cuda", None)  # torch's tensors of all devices have the interface
    if isinstance(is_cuda, bool):
        return is_cuda
    if getattr(value, "__cuda_array_interface__", None) is not None:
        return True
    device = getattr(value, "__dlpack_device__", None)
    return callable(device) and int(device()[0]) in CUDA_DEVICE_TYPES


def gpu_framework() -> Framework:
    """Who makes tensors on a GPU where no argument says it: a torch or cupy that works there, imported or just installed, else the runtime itself."""
    torch = torch_framework()
    return torch if torch is not None and torch.reaches_gpu else cupy_framework() or _installed_framework()


@functools.cache
def _installed_framework() -> Framework:
    for name in ("torch", "cupy"):
        if importlib.util.find_spec(name) is not None:
            with suppress(Exception):  # installed for another machine: no reason to stop
                module = importlib.import_module(name)
                if module.cuda.is_available():
                    found = torch_framework() if name == "torch" else _cupy_arrays(module)
                    if found is not None:
                        return found
    return DeviceArrays()


def address_on_gpu(output: Any) -> int:
    """Where a tensor that `gpu_framework` made begins."""
    return output.address if isinstance(output, DeviceArray) else gpu_framework().address(output)


def cupy_framework() -> CupyArrays | None:
    """The framework of the cupy that the program has imported."""
    cupy = sys.modules.get("cupy")
    return None if cupy is None else _cupy_arrays(cupy)


@functools.lru_cache(maxsize=1)
def _cupy_arrays(cupy: Any) -> CupyArrays:
    return CupyArrays(cupy)
