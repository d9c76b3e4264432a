"""What a compiled kernel accepts, and which machine words its native entry is given (floor 7).

The entry is `i32 entry(ptr slots)`; every slot is 8 bytes. Integers are sign- or zero-extended, a float32 sits in the low four bytes
with zero above, a bool is 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from tilewright.errors import CompilerBug
from tilewright.runtime.torch_layout import TorchLayout

Extent = int | str  # a number that must match, or a symbol: its first occurrence binds, later ones must be equal


class ScalarKind(Enum):
    """Type of a scalar argument. Integers accept exact `int` in range, floats exact `float` or `int`, BOOL exact `bool`."""

    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"  # an address, too
    FLOAT32 = "float32"  # rounded to nearest; beyond its range it becomes infinite
    FLOAT64 = "float64"
    BOOL = "bool"

    @property
    def is_float(self) -> bool:
        return self in (ScalarKind.FLOAT32, ScalarKind.FLOAT64)

    @property
    def is_signed(self) -> bool:
        return self in (ScalarKind.INT8, ScalarKind.INT16, ScalarKind.INT32, ScalarKind.INT64)

    @property
    def bits(self) -> int:
        return int(np.dtype(self.value).itemsize) * 8


@dataclass(frozen=True, slots=True)
class TensorArgument:
    """A numpy array.

    strides: in elements; None means C-contiguous. An entry is a number or symbol as in `shape`, or None where any stride will do. The
    stride of an axis of extent 0 or 1 is never used, so any is accepted: it counts as the required value, or 0 if none is known yet.
    """

    dtype_numpy: np.dtype[Any]
    shape: tuple[Extent, ...]
    is_written: bool
    alignment_bytes: int = 1
    strides: tuple[Extent | None, ...] | None = None

    def __post_init__(self) -> None:
        # Arrays are recognised by the identity of their dtype object, and dtypes that compare equal must be one cache key.
        if np.dtype(self.dtype_numpy.name) is not self.dtype_numpy:
            raise CompilerBug(f"{self.dtype_numpy!r} is not the canonical numpy dtype of its name")
        if self.alignment_bytes < 1 or self.alignment_bytes & (self.alignment_bytes - 1):
            raise CompilerBug(f"an alignment of {self.alignment_bytes} bytes is not a power of two")
        if self.strides is not None and len(self.strides) != len(self.shape):
            raise CompilerBug(f"{len(self.strides)} strides for a tensor of rank {len(self.shape)}")

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class ScalarArgument:
    """A Python number."""

    kind: ScalarKind


@dataclass(frozen=True, slots=True)
class TorchArgument:
    """A torch tensor in the place that `layout` is for: plain, dense, contiguous. Of a GPU it is the one whose ordinal is bound word `device_word`."""

    layout: TorchLayout
    dtype: str  # as torch spells it, without "torch."
    dtype_code: int  # torch's number for it
    shape: tuple[Extent, ...]
    is_written: bool
    itemsize: int
    alignment_bytes: int = 1
    device_word: int | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)


Argument = TensorArgument | TorchArgument | ScalarArgument


@dataclass(frozen=True, slots=True)
class DataPointer:
    """Address of a tensor's first element."""

    argument: int


@dataclass(frozen=True, slots=True)
class Dimension:
    """Extent of one axis, in elements."""

    argument: int
    axis: int


@dataclass(frozen=True, slots=True)
class Stride:
    """Distance along one axis, in elements. Of a contiguous tensor: the product of the extents of the later axes."""

    argument: int
    axis: int


@dataclass(frozen=True, slots=True)
class ScalarValue:
    """Value of a scalar argument."""

    argument: int


@dataclass(frozen=True, slots=True)
class BoundWord:
    """A word that was given when the stub was made."""

    number: int


@dataclass(frozen=True, slots=True)
class TorchStream:
    """The handle of torch's current stream on the GPU whose ordinal is a bound word."""

    layout: TorchLayout
    device_word: int


Slot = DataPointer | Dimension | Stride | ScalarValue | BoundWord | TorchStream


@dataclass(frozen=True, slots=True)
class LaunchSignature:
    """Positional arguments of a kernel and the slots its entry reads.

    int32_symbols: those whose extent must stay below 2**31, as the kernel may compute with them in 32 bits.
    bound_count: words that a stub is made with.
    """

    arguments: tuple[Argument, ...]
    slots: tuple[Slot, ...]
    int32_symbols: frozenset[str] = frozenset()
    bound_count: int = 0

    def __post_init__(self) -> None:
        for slot in self.slots:
            if isinstance(slot, (BoundWord, TorchStream)):
                if not 0 <= (slot.number if isinstance(slot, BoundWord) else slot.device_word) < self.bound_count:
                    raise CompilerBug(f"{slot} is none of {self.bound_count} bound words")
                continue
            argument = self.arguments[slot.argument] if 0 <= slot.argument < len(self.arguments) else None
            match slot, argument:
                case (DataPointer(), TensorArgument() | TorchArgument()) | (ScalarValue(), ScalarArgument()):
                    pass
                case (Dimension(axis=axis) | Stride(axis=axis), TensorArgument(shape=shape) | TorchArgument(shape=shape)) if 0 <= axis < len(shape):
                    pass
                case _:
                    raise CompilerBug(f"{slot} does not fit the arguments {self.arguments}")

    def overlap_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of tensor arguments that must not share memory: those of which one is written."""
        tensors = [(index, argument.is_written) for index, argument in enumerate(self.arguments) if isinstance(argument, (TensorArgument, TorchArgument))]
        return tuple(
            (first, second)
            for position, (first, is_first_written) in enumerate(tensors)
            for second, is_second_written in tensors[position + 1 :]
            if is_first_written or is_second_written
        )
