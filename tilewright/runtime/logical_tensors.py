"""A caller's tensor counted in elements of the parameter that it is given for (floor 7; language.md 8.1).

They differ where a dtype lies packed in memory, where it has lanes, and where one dtype is accepted for another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tilewright.dtypes import DType
from tilewright.errors import Kind
from tilewright.ir.buffer import Buffer
from tilewright.ir.program import Parameter
from tilewright.runtime.argument_text import declared_type, dimensions, plural, refuse
from tilewright.runtime.dlpack import row_major
from tilewright.runtime.symbols import Equation
from tilewright.runtime.tensors import GivenTensor

# Given element types that a parameter takes besides its own. Their bits mean the same, or are read as the parameter's dtype says.
_ALSO_ACCEPTED = {"float8_e4m3": ("float8_e4m3fn",), "bool": ("int8", "uint8"), "tfloat32": ("float32",), "handle": ("int64", "uint64")}
_PACKED_BYTES = ("int8", "uint8")


@dataclass(frozen=True, slots=True)
class LogicalTensor:
    """Shape and strides in elements of the parameter's dtype.

    is_staged   the kernel works on a packed copy: the caller's 4-bit elements lie one per byte.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    given: GivenTensor
    is_staged: bool = False

    @property
    def is_empty(self) -> bool:
        return 0 in self.shape

    @property
    def has_repeated_elements(self) -> bool:
        """Whether two indices may mean one place, as in a broadcast view."""
        return not self.is_empty and not self.is_staged and any(s == 0 and n > 1 for s, n in zip(self.strides, self.shape, strict=True))

    def reach_bytes(self, itemsize: int) -> tuple[int, int]:
        """First and one-past-last byte, relative to the address, of the caller's elements of `itemsize` bytes; there is at least one."""
        steps = [(n - 1) * s * itemsize for n, s in zip(self.given.shape, self.given.strides or (), strict=True)]
        return sum(min(s, 0) for s in steps), sum(max(s, 0) for s in steps) + itemsize


def is_accepted(dtype_name: str, dtype: DType) -> bool:
    """Whether a tensor of that dtype may be given for a parameter of `dtype`."""
    element = dtype.scalar
    if dtype_name == str(element) or dtype_name in _ALSO_ACCEPTED.get(element, ()):
        return True
    return element.is_packed and (dtype_name in _PACKED_BYTES or dtype_name == f"{element!s}_x2")


def logical_tensor(callee: str, parameter: Parameter, buffer: Buffer, given: GivenTensor) -> LogicalTensor:
    """A tensor of an accepted dtype as the kernel counts it.

    Raises TileError where the rank differs (ARGUMENT_RANK), lanes are missing (ARGUMENT_SHAPE) or elements do not lie as they must (ARGUMENT_STRIDES).
    """
    dtype, shape, strides, name = buffer.dtype, given.shape, given.strides, parameter.name
    rank = buffer.rank + (dtype.lanes > 1)
    if len(shape) != rank:
        expected = declared_type(parameter) + (f" with its {dtype.lanes} lanes as the last dimension" if dtype.lanes > 1 else "")
        refuse(
            Kind.ARGUMENT_RANK,
            f"{name} has {dimensions(shape)}, but {callee} expects {plural(rank, 'dimension')}: {expected}",
            parameter,
            because="the rank of a tensor is fixed by its declaration",
            help=f"reshape {name}, or index the dimension that is too many",
        )
    if dtype.is_packed and given.dtype_name == str(dtype):
        return LogicalTensor(shape, row_major(shape), given, is_staged=True)
    if strides is None:
        refuse(
            Kind.ARGUMENT_STRIDES,
            f"the strides of {name} are no whole numbers of elements",
            parameter,
            because=f"{callee} addresses {name} in steps of {dtype.itemsize} bytes",
            help=f"pass a contiguous copy of {name}",
        )
    if dtype.is_packed and shape:
        shape, strides = _unpacked(parameter, buffer, shape, strides)
    if dtype.lanes > 1:
        shape, strides = _without_lanes(parameter, dtype, shape, strides)
    return LogicalTensor(shape, strides, given)


def _unpacked(parameter: Parameter, buffer: Buffer, shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if strides[-1] != 1 and shape[-1] > 1:
        refuse(
            Kind.ARGUMENT_STRIDES,
            f"the bytes of {parameter.name} do not follow each other along its last dimension",
            parameter,
            because="two 4-bit elements share a byte",
            help=f"pass a contiguous copy of {parameter.name}",
        )
    last, declared = 2 * shape[-1], buffer.shape[-1]
    if isinstance(declared, int) and declared == last - 1 and math.prod(shape[:-1]) == 1:
        last = declared  # the upper half of the last byte is unused
    return (*shape[:-1], last), (*(2 * s for s in strides[:-1]), 1)


def _without_lanes(parameter: Parameter, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    lanes, name = dtype.lanes, parameter.name
    if shape[-1] != lanes:
        refuse(
            Kind.ARGUMENT_SHAPE,
            f"the last dimension of {name} is {shape[-1]}, but an element of {dtype!s} has {lanes} lanes",
            parameter,
            because=f"a tensor of {dtype!s} is given as {dtype.scalar!s} with the lanes last",
            help=f"reshape {name} to (..., {lanes})",
        )
    if 0 not in shape and (strides[-1] != 1 or any(s % lanes for s, n in zip(strides[:-1], shape[:-1], strict=True) if n > 1)):
        refuse(
            Kind.ARGUMENT_STRIDES,
            f"the lanes of {name} do not lie together",
            parameter,
            because=f"an element of {dtype!s} is {lanes} neighbouring values",
            help=f"pass a contiguous copy of {name}",
        )
    return shape[:-1], tuple(s // lanes for s in strides[:-1])


def equations_of(parameter: Parameter, buffer: Buffer, tensor: LogicalTensor) -> list[Equation]:
    """What a tensor says about the dimensions and strides of its declaration. Raises TileError (ARGUMENT_STRIDES) for a negative stride."""
    found = [Equation(extent, size, parameter, axis) for axis, (extent, size) in enumerate(zip(buffer.shape, tensor.shape, strict=True))]
    if buffer.given_strides is None:
        return found
    for axis, (expected, stride, size) in enumerate(zip(buffer.given_strides, tensor.strides, tensor.shape, strict=True)):
        is_loose = tensor.is_empty or size == 1
        if stride < 0 and not is_loose and not isinstance(expected, int):
            refuse(
                Kind.ARGUMENT_STRIDES,
                f"stride {axis} of {parameter.name} is {plural(stride, 'element')}",
                parameter,
                because="a symbolic stride counts from 0 on",
                help=f"pass a copy of {parameter.name}, whose strides are positive",
            )
        found.append(Equation(expected, stride, parameter, axis, is_stride=True, is_loose=is_loose))
    return found
