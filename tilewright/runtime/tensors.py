"""What an argument that is a tensor says of itself, whatever framework made it; and new tensors of the same framework (floor 7).

numpy arrays and torch tensors are read directly. Every other object is seen through DLPack, the array interface or the buffer protocol, in
this order. No framework is imported: a torch tensor can only come from a program that has imported torch.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.dtypes import SCALAR_DTYPES, DType, as_dtype
from tilewright.runtime.dlpack import export
from tilewright.runtime.nibbles import unpack_nibbles
from tilewright.runtime.stub import native_stub_obstacle
from tilewright.runtime.stub_code import array_data_address

CPU = "cpu"


def _interface_address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


# The address of a numpy array's first element, in bytes.
array_address: Callable[[Any], int] = array_data_address if native_stub_obstacle() is None else _interface_address


class NotATensorError(Exception):
    """The object cannot be read as a tensor. The text, if any, ends the sentence "X is ..."."""


@dataclass(frozen=True, slots=True)
class GivenTensor:
    """A tensor in memory.

    address     of its first element, in bytes; 0 where the memory is out of reach.
    strides     in elements; None where one is no whole number of elements.
    dtype_name  as numpy, ml_dtypes and torch spell it; two 4-bit elements in a byte are `float4_e2m1fn_x2`.
    device      "cpu", "cuda:0", ...
    owner       keeps the memory alive.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype_name: str
    is_writable: bool
    device: str
    owner: object


class Framework(ABC):
    """How the tensors of one library are read and made."""

    @abstractmethod
    def describe(self, argument: Any) -> GivenTensor:
        """The tensor in neutral terms. Raises NotATensorError, and whatever else a foreign object raises when it is asked."""

    def read(self, argument: Any) -> tuple[tuple[object, ...], int, Any]:
        """What `describe` says, quickly: a hashable key of all but the type and the address, the address, and what keeps the memory alive.

        Raises anything where `describe` would raise.
        """
        given = self.describe(argument)
        return (given.dtype_name, given.shape, given.strides, given.is_writable, given.device), given.address, given.owner

    @abstractmethod
    def address(self, output: Any) -> int:
        """Where the first element of a tensor made by `allocator` is."""

    @abstractmethod
    def allocator(self, shape: tuple[int, ...], dtype: DType) -> Callable[[], Any]:
        """A function that makes a new tensor without setting its elements. 4-bit elements lie two in a byte."""

    def finish(self, output: Any, shape: tuple[int, ...], dtype: DType, like: Any) -> Any:
        """A tensor made by `allocator`, now filled, as the caller gets it; `like` is the argument that chose the framework."""
        return output

    def conversion(self, dtype: DType) -> str:
        """What to call on a tensor to get this dtype."""
        return f".astype({_spelling(dtype)})"


class NumpyArrays(Framework):
    """numpy.ndarray and its subclasses, 4-bit elements of ml_dtypes included."""

    def describe(self, argument: Any) -> GivenTensor:
        if isinstance(argument, np.ma.MaskedArray):
            raise NotATensorError("a masked array, and kernels know no masks")
        itemsize = argument.itemsize or 1
        strides = tuple(s // itemsize for s in argument.strides) if all(s % itemsize == 0 for s in argument.strides) else None
        name = _numpy_dtype_name(argument.dtype)
        return GivenTensor(array_address(argument), argument.shape, strides, name, argument.flags.writeable, CPU, argument)

    def read(self, argument: Any) -> tuple[tuple[object, ...], int, Any]:
        return (argument.dtype, argument.shape, argument.strides, argument.flags.writeable), array_address(argument), argument

    def address(self, output: Any) -> int:
        return array_address(output)

    def allocator(self, shape: tuple[int, ...], dtype: DType) -> Callable[[], Any]:
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


class TorchTensors(Framework):
    """torch.Tensor and its subclasses that hold memory."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._cpu = torch.device(CPU)
        # torch.int4 and torch.uint4 are mere names: no tensor of them can be filled or read.
        names = (*(str(d) for d in SCALAR_DTYPES if not d.is_packed), "float4_e2m1fn_x2")
        self._names = {getattr(torch, name): name for name in names if isinstance(getattr(torch, name, None), torch.dtype)}

    def describe(self, argument: Any) -> GivenTensor:
        name = self._names.get(argument.dtype, str(argument.dtype))
        if argument.layout is not self._torch.strided:
            raise NotATensorError(f"a tensor of layout {argument.layout}")
        shape, strides = tuple(int(n) for n in argument.shape), tuple(argument.stride())
        if not argument.is_cpu:
            return GivenTensor(0, shape, strides, name, True, str(argument.device), argument)
        # Subclasses that dispatch for themselves (FakeTensor, DTensor) hold no memory, or other memory than they show.
        if type(argument).__torch_dispatch__ is not self._torch.Tensor.__torch_dispatch__:
            raise NotATensorError(f"a {type(argument).__name__} without memory of its own")
        if argument.is_neg():
            raise NotATensorError("a lazily negated view, whose memory holds other values; call .resolve_neg() first")
        return GivenTensor(self.address(argument), shape, strides, name, True, CPU, argument)

    def read(self, argument: Any) -> tuple[tuple[object, ...], int, Any]:
        key = argument.dtype, argument.shape, argument.stride(), argument.is_cpu, argument.is_neg()
        return key, argument.data_ptr() or self.address(argument), argument

    def address(self, output: Any) -> int:
        address: int = output.data_ptr()
        if not address and output.numel():
            raise NotATensorError(f"a {type(output).__name__} without memory of its own")
        return address

    def allocator(self, shape: tuple[int, ...], dtype: DType) -> Callable[[], Any]:
        return functools.partial(self._torch.empty, packed_shape(shape) if dtype.is_packed else shape, dtype=self._dtype(dtype), device=self._cpu)

    def _dtype(self, dtype: DType) -> Any:
        name = {"tfloat32": "float32", "int4": "int8", "uint4": "uint8", "handle": "int64", "float8_e4m3": "float8_e4m3fn"}.get(dtype, str(dtype))
        return getattr(self._torch, name, self._torch.uint8)  # elements that torch does not know arrive as bytes

    def conversion(self, dtype: DType) -> str:
        return f".to({self._dtype(dtype)})"


class ForeignTensors(NumpyArrays):
    """Tensors of any other library, through DLPack."""

    read = Framework.read

    def describe(self, argument: Any) -> GivenTensor:
        try:
            found = export(argument)
        except Exception as error:
            raise NotATensorError(f"an object of type {type(argument).__name__} that DLPack cannot export ({type(error).__name__}: {error})") from None
        return GivenTensor(found.address, found.shape, found.strides, found.dtype_name, found.is_writable, found.device, found.capsule)

    def finish(self, output: Any, shape: tuple[int, ...], dtype: DType, like: Any) -> Any:
        """An array of the library itself where it follows the array API standard and knows the dtype, else one of numpy's."""
        array = super().finish(output, shape, dtype, like)
        try:
            return like.__array_namespace__().asarray(array)
        except Exception:  # whatever the library answers, the result is not lost
            return array


class CudaObjects(ForeignTensors):
    """Objects that only offer `__cuda_array_interface__`: known well enough to be refused by name."""

    def describe(self, argument: Any) -> GivenTensor:
        return GivenTensor(0, (), (), "", False, "cuda", argument)


NUMPY = NumpyArrays()
_BUFFERS, _FOREIGN, _CUDA = BufferObjects(), ForeignTensors(), CudaObjects()
# ctypes scalars and pointers export their own few bytes, numpy scalars a copy: never what is meant by a tensor.
_NEVER_TENSORS = (np.generic, ctypes._SimpleCData, ctypes._Pointer)


@functools.lru_cache(maxsize=256)
def framework_of(kind: Any) -> Framework | None:
    """Who reads objects of this type; None for those that are never tensors. That an object is one shows only when it is read."""
    if issubclass(kind, np.ndarray):
        return NUMPY
    torch = sys.modules.get("torch")
    if torch is not None and issubclass(kind, torch.Tensor):
        return _torch_tensors(torch)
    if issubclass(kind, _NEVER_TENSORS):
        return None
    if hasattr(kind, "__dlpack__") and hasattr(kind, "__dlpack_device__"):
        return _FOREIGN
    return _CUDA if hasattr(kind, "__cuda_array_interface__") else _BUFFERS


@functools.lru_cache(maxsize=1)
def _torch_tensors(torch: Any) -> TorchTensors:
    return TorchTensors(torch)


def read_tensor(argument: Any) -> tuple[Framework, GivenTensor]:
    """Any object as a tensor. Raises NotATensorError."""
    kind: Any = type(argument)
    framework = framework_of(kind)
    if framework is None:
        raise NotATensorError
    return framework, framework.describe(argument)


def packed_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, in bytes, of 4-bit elements that lie two in a byte along the last axis."""
    return (*shape[:-1], (shape[-1] + 1) // 2) if shape else (1,)


def _numpy_dtype_name(dtype: np.dtype[Any]) -> str:
    try:
        return str(as_dtype(dtype))
    except ValueError:
        return f"{dtype.name} in the other byte order" if not dtype.isnative else str(dtype)


def _spelling(dtype: DType) -> str:
    numpy = dtype.numpy
    return f"ml_dtypes.{numpy.name}" if numpy.type.__module__.startswith("ml_dtypes") else f"numpy.{numpy.name}"
