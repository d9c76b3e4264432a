"""Reads what an object exports through DLPack, without copying and for every element type (floor 7).

`numpy.from_dlpack` does not know bfloat16 and the 8- and 4-bit floats, hence this reader. Layouts: dlpack.h of DLPack 1.1, structures
DLManagedTensor and DLManagedTensorVersioned, enumerations DLDeviceType and DLDataTypeCode.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from tilewright.runtime.cuda_driver import has_driver
from tilewright.runtime.cuda_streams import current_stream

_DEVICE_NAMES = {
    1: "cpu",
    2: "cuda",
    3: "cpu",
    4: "opencl",
    7: "vulkan",
    8: "metal",
    9: "vpi",
    10: "rocm",
    11: "cpu",
    12: "ext_dev",
    13: "cuda_managed",
    14: "oneapi",
    15: "webgpu",
    16: "hexagon",
    17: "maia",
}
CUDA_DEVICE_TYPES = (2, 13)  # memory of a GPU, and memory that moves between it and the host
_INTEGER_CODES = {0: "int", 1: "uint", 2: "float"}
_FLOAT_CODES = {
    4: "bfloat16",
    7: "float8_e3m4",
    8: "float8_e4m3",
    9: "float8_e4m3b11fnuz",
    10: "float8_e4m3fn",
    11: "float8_e4m3fnuz",
    12: "float8_e5m2",
    13: "float8_e5m2fnuz",
    14: "float8_e8m0fnu",
    15: "float6_e2m3fn",
    16: "float6_e3m2fn",
    17: "float4_e2m1fn",
}
_LEGACY_DEFAULT_STREAM = 1  # how the protocol names CUDA's stream 0
_FLAG_READ_ONLY, _FLAG_COPIED, _FLAG_PADDED = 1, 2, 4


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_capsule_name = ctypes.pythonapi.PyCapsule_GetName
_capsule_name.restype, _capsule_name.argtypes = ctypes.c_char_p, (ctypes.py_object,)
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


@dataclass(frozen=True, slots=True)
class Exported:
    """One exported tensor; its memory stays valid as long as `capsule` lives.

    strides     in elements of `dtype_name`.
    dtype_name  as numpy and ml_dtypes spell it.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype_name: str
    is_writable: bool
    device: str
    capsule: object


def export(source: Any) -> Exported:
    """What `source.__dlpack__()` gives. On a GPU the export is ordered before later work on the current stream, where this process has a driver; a
    tensor out of reach is described but not exported: its address is 0.

    Raises whatever the exporter raises, and ValueError where it gives no valid capsule.
    """
    kind, index = source.__dlpack_device__()
    name = _DEVICE_NAMES.get(int(kind), f"device type {int(kind)}")
    device, options = (name if name == "cpu" else f"{name}:{int(index)}"), {}
    if int(kind) in CUDA_DEVICE_TYPES and has_driver():
        options = {"stream": current_stream(int(index)) or _LEGACY_DEFAULT_STREAM}
    elif name != "cpu":
        return Exported(0, (), (), "", False, device, None)
    try:
        capsule = source.__dlpack__(max_version=(1, 1), **options)
    except TypeError:  # an exporter from before DLPack 1.0
        capsule = source.__dlpack__(**options)
    is_versioned = _capsule_name(capsule) == b"dltensor_versioned"
    # The capsule is not consumed: it frees the export when it is collected.
    address = _capsule_pointer(capsule, b"dltensor_versioned" if is_versioned else b"dltensor")
    flags = _FLAG_READ_ONLY  # the old protocol does not say whether its memory may be written
    if is_versioned:
        header = _Versioned.from_address(address)
        if header.major != 1:
            raise ValueError(f"DLPack version {header.major} is not known")
        tensor, flags = header.tensor, header.flags
    else:
        tensor = _Tensor.from_address(address)
    shape = tuple(tensor.shape[axis] for axis in range(tensor.rank))
    strides = tuple(tensor.strides[axis] for axis in range(tensor.rank)) if tensor.strides else row_major(shape)
    is_writable = not flags & (_FLAG_READ_ONLY | _FLAG_COPIED)
    return Exported((tensor.data or 0) + tensor.byte_offset, shape, strides, _dtype_name(tensor, flags), is_writable, device, capsule)


def _dtype_name(tensor: Any, flags: int) -> str:
    code, bits, lanes = tensor.code, tensor.bits, tensor.lanes
    integer = f"{_INTEGER_CODES[code]}{bits}" if code in _INTEGER_CODES else f"DLPack type {code} of {bits} bits"
    name = "bool" if code == 6 else _FLOAT_CODES.get(code, integer)
    if bits < 8 and code != 6:
        # torch exports two packed elements as two lanes of one element.
        return f"{name}_x2" if lanes == 2 else f"{name} (one per byte)" if flags & _FLAG_PADDED else f"{name} (packed)"
    return name if lanes == 1 else f"{name}x{lanes}"


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a tensor without gaps whose last axis is the fastest."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))
