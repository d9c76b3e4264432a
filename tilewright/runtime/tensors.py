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

CPU = "cpu"


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

    def view(self, argument: Any) -> Any:
        """What the other methods take, keeping the memory alive. Raises NotATensorError."""
        return argument

    @abstractmethod
    def key(self, view: Any) -> tuple[object, ...]:
        """All that decides whether the tensor suits a parameter, its address aside; hashable. May raise anything where `describe` would complain."""

    @abstractmethod
    def address(self, view: Any) -> int:
        """Where the first element is now."""

    @abstractmethod
    def describe(self, view: Any) -> GivenTensor:
        """The tensor in neutral terms. Raises NotATensorError."""

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

    def key(self, view: Any) -> tuple[object, ...]:
        return type(view), view.dtype, view.shape, view.strides, view.flags.writeable

    def address(self, view: Any) -> int:
        return array_address(view)

    def describe(self, view: Any) -> GivenTensor:
        if isinstance(view, np.ma.MaskedArray):
            raise NotATensorError("a masked array, and kernels know no masks")
        itemsize = view.itemsize or 1
        strides = tuple(s // itemsize for s in view.strides) if all(s % itemsize == 0 for s in view.strides) else None
        return GivenTensor(self.address(view), view.shape, strides, _numpy_dtype_name(view.dtype), view.flags.writeable, CPU, view)

    def allocator(self, shape: tuple[int, ...], dtype: DType) -> Callable[[], Any]:
        return functools.partial(np.empty, (math.prod(shape) + 1) // 2 if dtype.is_packed else shape, np.uint8 if dtype.is_packed else dtype.numpy)

    def finish(self, output: Any, shape: tuple[int, ...], dtype: DType, like: Any) -> Any:
        return unpack_nibbles(output, dtype)[: math.prod(shape)].reshape(shape) if dtype.is_packed else output


class BufferObjects(NumpyArrays):
    """Objects with `__array_interface__` or the buffer protocol: array.array, memoryview, bytearray, mmap, ctypes arrays."""

    def view(self, argument: Any) -> Any:
        try:
            # numpy wraps both without copying; `__array__`, which copies at will, is never asked.
            return np.asarray(argument if _array_interface(argument) is not None else memoryview(argument))
        except Exception:
            raise NotATensorError from None


class TorchTensors(Framework):
    """torch.Tensor and its subclasses that hold memory."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._cpu = torch.device(CPU)
        self._names = {getattr(torch, name): name for name in (*SCALAR_DTYPES, "float4_e2m1fn_x2") if isinstance(getattr(torch, name, None), torch.dtype)}

    def key(self, view: Any) -> tuple[object, ...]:
        return type(view), view.dtype, view.shape, view.stride(), view.device, view.is_neg()

    def address(self, view: Any) -> int:
        address: int = view.data_ptr()
        if not address and view.numel():
            raise NotATensorError(f"a {type(view).__name__} without memory of its own")
        return address

    def describe(self, view: Any) -> GivenTensor:
        name = self._names.get(view.dtype, str(view.dtype))
        if view.layout is not self._torch.strided:
            raise NotATensorError(f"a tensor of layout {view.layout}")
        shape = tuple(int(n) for n in view.shape)
        if view.device != self._cpu:
            return GivenTensor(0, shape, tuple(view.stride()), name, True, str(view.device), view)
        # Subclasses that dispatch for themselves (FakeTensor, DTensor) hold no memory, or other memory than they show.
        if type(view).__torch_dispatch__ is not self._torch.Tensor.__torch_dispatch__:
            raise NotATensorError(f"a {type(view).__name__} without memory of its own")
        if view.is_neg():
            raise NotATensorError("a lazily negated view, whose memory holds other values; call .resolve_neg() first")
        return GivenTensor(self.address(view), shape, tuple(view.stride()), name, True, CPU, view)

    def allocator(self, shape: tuple[int, ...], dtype: DType) -> Callable[[], Any]:
        return functools.partial(self._torch.empty, packed_shape(shape) if dtype.is_packed else shape, dtype=self._dtype(dtype), device=self._cpu)

    def _dtype(self, dtype: DType) -> Any:
        name = {"tfloat32": "float32", "int4": "int8", "handle": "int64", "float8_e4m3": "float8_e4m3fn"}.get(dtype, str(dtype))
        return getattr(self._torch, name, self._torch.uint8)  # elements that torch does not know arrive as bytes

    def conversion(self, dtype: DType) -> str:
        return f".to({self._dtype(dtype)})"


class ForeignTensors(NumpyArrays):
    """Tensors of any other library, through DLPack. The `view` is a GivenTensor."""

    def view(self, argument: Any) -> GivenTensor:
        try:
            found = export(argument)
        except Exception as error:
            raise NotATensorError(f"a {type(argument).__name__} that DLPack cannot export ({type(error).__name__}: {error})") from None
        return GivenTensor(found.address, found.shape, found.strides, found.dtype_name, found.is_writable, found.device, found.capsule)

    def key(self, view: Any) -> tuple[object, ...]:
        return view.dtype_name, view.shape, view.strides, view.is_writable, view.device

    def address(self, view: Any) -> int:
        return int(view.address)

    def describe(self, view: Any) -> GivenTensor:
        given: GivenTensor = view
        return given

    def finish(self, output: Any, shape: tuple[int, ...], dtype: DType, like: Any) -> Any:
        """An array of the library itself where it follows the array API standard and knows the dtype, else one of numpy's."""
        array = super().finish(output, shape, dtype, like)
        try:
            return like.__array_namespace__().asarray(array)
        except Exception:  # whatever the library answers, the result is not lost
            return array


class CudaObjects(ForeignTensors):
    """Objects that only offer `__cuda_array_interface__`: known well enough to be refused by name."""

    def view(self, argument: Any) -> GivenTensor:
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
    return framework, framework.describe(framework.view(argument))


def packed_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, in bytes, of 4-bit elements that lie two in a byte along the last axis."""
    return (*shape[:-1], (shape[-1] + 1) // 2) if shape else (1,)


def array_address(array: Any) -> int:
    """The address of a numpy array's first element."""
    return int(array.__array_interface__["data"][0])


def _array_interface(argument: Any) -> Any:
    return getattr(argument, "__array_interface__", None)


def _numpy_dtype_name(dtype: np.dtype[Any]) -> str:
    try:
        return str(as_dtype(dtype))
    except ValueError:
        return f"{dtype.name} in the other byte order" if not dtype.isnative else str(dtype)


def _spelling(dtype: DType) -> str:
    numpy = dtype.numpy
    return f"ml_dtypes.{numpy.name}" if numpy.type.__module__.startswith("ml_dtypes") else f"numpy.{numpy.name}"
