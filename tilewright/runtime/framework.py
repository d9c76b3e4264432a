"""How the runtime sees the tensors of a library, whichever it is (floor 7)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from tilewright.dtypes import DType, as_dtype

CPU = "cpu"


class Place(Enum):
    """Where a kernel runs. The value is what the names of its devices begin with."""

    CPU = "cpu"
    GPU = "cuda"

    @property
    def noun(self) -> str:
        return f"the {self.name}"

    def alignment_bytes(self, dtype: DType) -> int:
        """What the address of a tensor must be a multiple of. GPU code accesses up to 16 bytes at once; CPU code single lanes, whatever their number."""
        return 16 if self is Place.GPU else dtype.scalar.itemsize

    def holds(self, device: str) -> bool:
        """Whether kernels that run here reach the memory of a device."""
        return device.split(":")[0] in (self.value, f"{self.value}_managed")


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
    def allocator(self, shape: tuple[int, ...], dtype: DType, device: str = CPU) -> Callable[[], Any]:
        """A function that makes a new tensor on a device without setting its elements. 4-bit elements lie two in a byte."""

    def finish(self, output: Any, shape: tuple[int, ...], dtype: DType, like: Any) -> Any:
        """A tensor made by `allocator`, now filled, as the caller gets it; `like` is the argument that chose the framework."""
        return output

    def conversion(self, dtype: DType) -> str:
        """What to call on a tensor to get this dtype."""
        return f".astype({spelling(dtype)})"


def packed_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, in bytes, of 4-bit elements that lie two in a byte along the last axis."""
    return (*shape[:-1], (shape[-1] + 1) // 2) if shape else (1,)


def numpy_dtype_name(dtype: np.dtype[Any]) -> str:
    """A numpy dtype as messages and checks name it."""
    try:
        return str(as_dtype(dtype))
    except ValueError:
        return f"{dtype.name} in the other byte order" if not dtype.isnative else str(dtype)


def spelling(dtype: DType) -> str:
    """How a numpy program writes a dtype."""
    numpy = dtype.numpy
    return f"ml_dtypes.{numpy.name}" if numpy.type.__module__.startswith("ml_dtypes") else f"numpy.{numpy.name}"
