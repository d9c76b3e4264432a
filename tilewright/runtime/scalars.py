"""Scalar and pointer arguments as the 64-bit words of native slots (floor 7)."""

from __future__ import annotations

import ctypes
import operator
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright.dtypes import DType
from tilewright.ir.constants import convert_constant
from tilewright.runtime.tensors import GivenTensor, NotATensorError, Place, read_tensor

_WORD_MASK = (1 << 64) - 1


class ScalarMismatchError(Exception):
    """The object is no value of the dtype; the text, if any, says which rule it breaks."""


def scalar_converter(dtype: DType) -> Callable[[Any], int]:
    """A function from a Python number to its slot: integers extended to 64 bits, floats of up to 32 bits as float32, float64 whole.

    Numbers are bool, int, float, numpy scalars and tensors without dimensions. Integers must be in range; floats round, as numpy rounds them.
    The function raises ScalarMismatchError.
    """
    if dtype.is_bool:
        return lambda value: int(python_integer(value) != 0)
    if dtype.is_float:
        to_bits = _float64_bits if dtype.bits == 64 else _float32_bits
        if dtype.bits >= 32:
            return lambda value: to_bits(python_float(value))
        return lambda value: to_bits(convert_constant(python_float(value), dtype))
    low, high = int(dtype.minimum), int(dtype.maximum)

    def integer_word(value: Any) -> int:
        number = python_integer(value)
        if not low <= number <= high:
            raise ScalarMismatchError(f"{dtype!s} holds {low} to {high}")
        return number & _WORD_MASK

    return integer_word


def python_integer(value: Any) -> int:
    """An integer or bool as an int. Raises ScalarMismatchError."""
    if isinstance(value, int):
        return operator.index(value)
    number = _item(value)
    if isinstance(number, (int, np.integer, np.bool_)):
        return int(number)
    raise ScalarMismatchError("a fraction is not cut off silently" if isinstance(number, (float, np.inexact)) else "")


def python_float(value: Any) -> float:
    """A real number as a float64. Raises ScalarMismatchError."""
    number = value if isinstance(value, (int, float)) else _item(value)
    # ml_dtypes' scalars are plain np.generic.
    if not isinstance(number, (int, float, np.generic)) or isinstance(number, (np.complexfloating, np.flexible, np.datetime64, np.timedelta64, np.object_)):
        raise ScalarMismatchError
    try:
        return float(number)
    except OverflowError:
        raise ScalarMismatchError("the number is beyond the range of float64") from None


def _item(value: Any) -> Any:
    """The element of a tensor without dimensions; anything else unchanged."""
    if isinstance(value, np.generic):
        return value
    if isinstance(value, np.ndarray):
        return value[()] if value.ndim == 0 else value
    if hasattr(type(value), "item") and getattr(value, "shape", None) == ():
        return value.item()
    return value


def _float32_bits(value: float) -> int:
    try:
        return int.from_bytes(struct.pack("<f", value), "little")
    except OverflowError:  # beyond the range: infinite, as numpy rounds it
        return ctypes.c_uint32.from_buffer(ctypes.c_float(value)).value


def _float64_bits(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def pointer_word(value: Any, place: Place = Place.CPU) -> tuple[int, GivenTensor | None]:
    """The address meant by an int, a ctypes pointer or a tensor, and the tensor.

    Raises ScalarMismatchError for other objects, and for tensors that kernels in that place cannot reach.
    """
    if isinstance(value, ctypes.c_void_p):
        return value.value or 0, None
    if isinstance(value, ctypes._Pointer):
        return ctypes.cast(value, ctypes.c_void_p).value or 0, None
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        address = operator.index(value)
        if not 0 <= address <= _WORD_MASK:
            raise ScalarMismatchError("an address has 64 bits and no sign")
        return address, None
    try:
        _, given = read_tensor(value)
    except NotATensorError:
        raise ScalarMismatchError from None
    if not place.holds(given.device):
        raise ScalarMismatchError(f"its memory is on {given.device}")
    return given.address, given
