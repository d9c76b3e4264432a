"""What an argument that is a tensor says of itself, whatever framework made it; and new tensors of the same framework (floor 7).

numpy arrays and torch tensors are read directly. Every other object is seen through DLPack, the array interface or the buffer protocol, in
this order. No framework is imported: a torch tensor can only come from a program that has imported torch.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright.dtypes import DType
from tilewright.runtime.cuda_tensors import CudaInterfaceObjects, DeviceArray, DeviceArrays, address_on_gpu, cupy_framework, gpu_framework
from tilewright.runtime.dlpack import export
from tilewright.runtime.framework import CPU, Framework, GivenTensor, NotATensorError, Place, numpy_dtype_name, packed_shape
from tilewright.runtime.nibbles import unpack_nibbles
from tilewright.runtime.stub import native_stub_obstacle
from tilewright.runtime.stub_code import array_data_address
from tilewright.runtime.torch_tensors import TorchTensors, torch_framework


def _interface_address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


# The address of a numpy array's first element, in bytes.
array_address: Callable[[Any], int] = array_data_address if native_stub_obstacle() is None else _interface_address


class NumpyArrays(Framework):
    """numpy.ndarray and its subclasses, 4-bit elements of ml_dtypes included."""

    def describe(self, argument: Any) -> GivenTensor:
        if isinstance(argument, np.ma.MaskedArray):
            raise NotATensorError("a masked array, and kernels know no masks")
        itemsize = argument.itemsize or 1
        strides = tuple(s // itemsize for s in argument.strides) if all(s % itemsize == 0 for s in argument.strides) else None
        name = numpy_dtype_name(argument.dtype)
        return GivenTensor(array_address(argument), argument.shape, strides, name, argument.flags.writeable, CPU, argument)

    def read(self, argument: Any) -> tuple[tuple[object, ...], int, Any]:
        return (argument.dtype, argument.shape, argument.strides, argument.flags.writeable), array_address(argument), argument

    def address(self, output: Any) -> int:
        return array_address(output)

    def allocator(self, shape: tuple[int, ...], dtype: DType, device: str = CPU) -> Callable[[], Any]:
        return functools.partial(np.empty, (math.prod(shape) + 1) // 2 if dtype.is_packed else shape, np.uint8 if dtype.is_packed else dtype.numpy)

    def finish(self, output: Any, shape: tuple[int, ...], dtype: DType, like: Any) -> Any:
        return unpack_nibbles(output, dtype)[: math.prod(shape)].reshape(shape) if dtype.is_packed else output


class BufferObjects(NumpyArrays):
    """Objects with `__array_interface__` or the buffer protocol: array.array, memoryview, bytearray, mmap, ctypes arrays."""

    read = Framework.read

    def describe(self, argument: Any) -> GivenTensor:
        try:
            # numpy wraps both without copying; `__array__`, which copies at will, is never asked.
            array = np.asarray(argument if getattr(argument, "__array_interface__", None) is not None else memoryview(argument))
        except Exception:
            raise NotATensorError from None
        return super().describe(array)


class ForeignTensors(NumpyArrays):
    """Tensors of any other library, through DLPack."""

    read = Framework.read

    def describe(self, argument: Any) -> GivenTensor:
        try:
            found = export(argument)
        except Exception as error:
            raise NotATensorError(f"an object of type {type(argument).__name__} that DLPack cannot export ({type(error).__name__}: {error})") from None
        return GivenTensor(found.address, found.shape, found.strides, found.dtype_name, found.is_writable, found.device, found.capsule)

    def address(self, output: Any) -> int:
        return array_address(output) if isinstance(output, np.ndarray) else address_on_gpu(output)

    def allocator(self, shape: tuple[int, ...], dtype: DType, device: str = CPU) -> Callable[[], Any]:
        return super().allocator(shape, dtype) if device == CPU else gpu_framework().allocator(shape, dtype, device)

    def finish(self, output: Any, shape: tuple[int, ...], dtype: DType, like: Any) -> Any:
        """An array of the library itself where it follows the array API standard and knows the dtype, else one of numpy's."""
        array = super().finish(output, shape, dtype, like) if isinstance(output, np.ndarray) else output
        try:
            library = like.__array_namespace__()
            return library.asarray(array) if isinstance(array, np.ndarray) else library.from_dlpack(array)
        except Exception:  # whatever the library answers, the result is not lost
            return array


__all__ = [
    "CPU",
    "NUMPY",
    "BufferObjects",
    "ForeignTensors",
    "Framework",
    "GivenTensor",
    "NotATensorError",
    "NumpyArrays",
    "Place",
    "TorchTensors",
    "array_address",
    "framework_of",
    "packed_shape",
    "read_tensor",
]

NUMPY = NumpyArrays()
_BUFFERS, _FOREIGN, _CUDA, _DEVICE_ARRAYS = BufferObjects(), ForeignTensors(), CudaInterfaceObjects(), DeviceArrays()
# ctypes scalars and pointers export their own few bytes, numpy scalars a copy: never what is meant by a tensor.
_NEVER_TENSORS = (np.generic, ctypes._SimpleCData, ctypes._Pointer)


@functools.lru_cache(maxsize=256)
def framework_of(kind: Any) -> Framework | None:
    """Who reads objects of this type; None for those that are never tensors. That an object is one shows only when it is read."""
    if issubclass(kind, np.ndarray):
        return NUMPY
    torch = sys.modules.get("torch")
    if torch is not None and issubclass(kind, torch.Tensor):
        return torch_framework()
    cupy = sys.modules.get("cupy")
    if cupy is not None and issubclass(kind, cupy.ndarray):
        return cupy_framework()
    if issubclass(kind, _NEVER_TENSORS):
        return None
    if issubclass(kind, DeviceArray):
        return _DEVICE_ARRAYS
    if hasattr(kind, "__dlpack__") and hasattr(kind, "__dlpack_device__"):
        return _FOREIGN
    return _CUDA if hasattr(kind, "__cuda_array_interface__") else _BUFFERS


def read_tensor(argument: Any) -> tuple[Framework, GivenTensor]:
    """Any object as a tensor. Raises NotATensorError."""
    kind: Any = type(argument)
    framework = framework_of(kind)
    if framework is None:
        raise NotATensorError
    return framework, framework.describe(argument)
