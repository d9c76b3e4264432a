"""Arguments of a case in the memory of a GPU, and back (floor 9). Every dtype and every stride goes there, with no library but the driver.

Around every array, and between elements that do not follow each other, lie bytes that a kernel has no business to change: they are looked at afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.dtypes import DType
from tilewright.execution.memory import strided
from tilewright.ir.program import Parameter
from tilewright.jit import compile as compile_kernel
from tilewright.language import PrimFunc
from tilewright.runtime.cuda_driver import CudaError, fail_driver, require_driver
from tilewright.runtime.cuda_tensors import DeviceArray
from tilewright.runtime.nibbles import pack_nibbles, unpack_nibbles
from tilewright.target.nvidia import NvidiaTarget

MARGIN_BYTES = 256
_UNTOUCHED = 0xA5


class StrayWriteError(Exception):
    """A kernel changed memory that belongs to no element of its arguments."""


@dataclass(frozen=True)
class _Placed:
    """One argument on a device.

    image    all its memory as it was before the kernel ran, margins included.
    inside   where in it the elements are, as an array of the same shape and strides.
    """

    parameter: Parameter
    dtype: DType
    shape: tuple[int, ...]
    array: DeviceArray
    image: Any
    inside: Any


def run_on_gpu(ordinal: int, target: str | NvidiaTarget, kernel: PrimFunc, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An executor: compiles, calls with copies of the arguments on a device, and gives the tensors afterwards by name, on the host.

    Raises StrayWriteError, and TileError as a call does; a kernel that the device ended shows as gpu-error.
    """
    compiled = compile_kernel(kernel, target=target)
    placed: dict[str, _Placed] = {}
    values: list[Any] = []
    for parameter in kernel.program.parameters:
        value = arguments[parameter.name]
        if isinstance(value, np.ndarray) and parameter.buffer is not None:
            placed[parameter.name] = _place(parameter, parameter.buffer.dtype, value, ordinal)
            value = placed[parameter.name].array
        values.append(value)
    compiled(*values)
    return dict(arguments) | {name: _fetched(p) for name, p in placed.items()}


def _place(parameter: Parameter, dtype: DType, value: Any, ordinal: int) -> _Placed:
    """A copy on the device, with the strides of the original; 4-bit elements lie two in a byte there, as kernels see them."""
    given = pack_nibbles(value).reshape(*value.shape[:-1], -1) if dtype.is_packed else value
    strides = None if given.flags.c_contiguous else given.strides
    array = DeviceArray(given.shape, given.dtype, ordinal, strides=strides, margin_bytes=MARGIN_BYTES)
    image = np.full(array.size_bytes, _UNTOUCHED, np.uint8)
    inside = _elements(image, given.shape, given.dtype, strides)
    inside[...] = given
    try:
        require_driver("a copy to a GPU").write(ordinal, array.base, image.ctypes.data, array.size_bytes)
    except CudaError as error:
        fail_driver(error, f"copying {parameter.name} to a GPU")
    return _Placed(parameter, dtype, value.shape, array, image, inside)


def _elements(image: Any, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...] | None) -> Any:
    """The elements of an array in the bytes of its memory."""
    span = image[MARGIN_BYTES : image.size - MARGIN_BYTES].view(dtype)
    return span.reshape(shape) if strides is None else strided(span, shape, strides)


def _fetched(placed: _Placed) -> Any:
    """The argument after the call, on the host."""
    array, after = placed.array, np.empty_like(placed.image)
    try:
        require_driver("a copy from a GPU").read(int(array.device.split(":")[1]), array.base, after.ctypes.data, array.size_bytes)
    except CudaError as error:
        fail_driver(error, f"copying {placed.parameter.name} from a GPU")
    found = _elements(after, array.shape, array.dtype, array.strides)
    placed.inside[...] = found
    strays = np.flatnonzero(placed.image != after)
    if strays.size:
        first = strays[0] - MARGIN_BYTES
        raise StrayWriteError(f"{placed.parameter.name}: {strays.size} bytes of no element were written, the first {first} bytes from the first element")
    if not placed.dtype.is_packed:
        return found.copy()
    count = int(np.prod(placed.shape, dtype=np.int64))
    return unpack_nibbles(found.reshape(-1), placed.dtype)[:count].reshape(placed.shape)
