"""From offset digits to addresses (floor 1): one stride per digit, which gives padding and multi-buffer stages without leaving the algebra.

`MemoryLayout` is what a buffer in memory has: a `Layout` from tile coordinates to (offset,), then an `Embedding` of the offset digits. All
addresses are in elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from tilewright.layout.digits import OFFSET, STAGE, Axis, LayoutError, factor, place_values
from tilewright.layout.layout import Layout


@dataclass(frozen=True, slots=True)
class Embedding:
    """address = base_elements + sum of digit * stride, over digits of the given radices (least significant first).

    Strides are in elements.
    """

    digits: tuple[int, ...]
    strides_elements: tuple[int, ...]
    base_elements: int = 0

    def __post_init__(self) -> None:
        if len(self.digits) != len(self.strides_elements):
            raise LayoutError(f"{len(self.digits)} digits but {len(self.strides_elements)} strides")

    @classmethod
    def natural(cls, axis: Axis) -> Embedding:
        """address = offset: no gaps."""
        return cls(axis.digits, axis.places)

    @property
    def is_natural(self) -> bool:
        return self.base_elements == 0 and self.strides_elements == place_values(self.digits)

    @property
    def has_separated_digits(self) -> bool:
        """Whether each stride exceeds everything the smaller ones reach together: then distinct offsets have distinct addresses."""
        reach = 0
        for stride, radix in sorted(zip(self.strides_elements, self.digits, strict=True)):
            if stride <= reach:
                return False
            reach += stride * (radix - 1)
        return True

    @property
    def size_elements(self) -> int:
        """One more than the largest address."""
        return self.base_elements + 1 + sum((radix - 1) * stride for radix, stride in zip(self.digits, self.strides_elements, strict=True) if stride > 0)

    def __call__(self, offset: int) -> int:
        """The address of one offset. Raises: LayoutError if it is out of range."""
        if not 0 <= offset < prod(self.digits):
            raise LayoutError(f"offset {offset} lies outside {prod(self.digits)} elements")
        address, rest = self.base_elements, offset
        for radix, stride in zip(self.digits, self.strides_elements, strict=True):
            rest, digit = divmod(rest, radix)
            address += digit * stride
        return address

    def addresses(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The addresses of an array of offsets, same shape."""
        if self.is_natural:
            return offsets
        address = np.full_like(offsets, self.base_elements)
        rest = offsets
        for radix, stride in zip(self.digits, self.strides_elements, strict=True):
            address += rest % radix * stride
            rest = rest // radix
        return address

    def padded(self, row_elements: int, padding_elements: int) -> Embedding:
        """Adds `padding_elements` after every `row_elements` addresses (a product of low digits).

        Raises: LayoutError if rows split a digit.
        """
        places = place_values(self.digits)
        if row_elements not in (*places, prod(self.digits)):
            raise LayoutError(f"rows of {row_elements} elements split a digit of {self.digits}")
        pads = (padding_elements * (place // row_elements) if place >= row_elements else 0 for place in places)
        strides = tuple(stride + pad for stride, pad in zip(self.strides_elements, pads, strict=True))
        return Embedding(self.digits, strides, self.base_elements)


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """Where each element of a tile lies: `layout` maps coordinates to one output axis of offset digits, `embedding` gives addresses."""

    layout: Layout
    embedding: Embedding

    def __post_init__(self) -> None:
        if len(self.layout.outs) != 1 or self.layout.outs[0].digits != self.embedding.digits:
            raise LayoutError("a memory layout needs one output axis with exactly the digits of its embedding")

    @classmethod
    def natural(cls, layout: Layout) -> MemoryLayout:
        """The layout without gaps: address = offset."""
        return cls(layout, Embedding.natural(layout.outs[0]))

    @classmethod
    def strided(cls, axes: Sequence[Axis], strides_elements: Sequence[Sequence[int]], base_elements: int = 0, out: str = OFFSET) -> MemoryLayout:
        """Purely additive: one stride per digit of each axis. Digits of stride 0 are replicated; the others are ordered by stride."""
        flat = [(radix, stride) for axis, row in zip(axes, strides_elements, strict=True) for radix, stride in zip(axis.digits, row, strict=True)]
        order = sorted((position for position, (_, stride) in enumerate(flat) if stride), key=lambda position: (abs(flat[position][1]), position))
        bit = {position: number for number, position in enumerate(order)}
        columns = tuple(1 << bit[position] if position in bit else 0 for position in range(len(flat)))
        digits = tuple(flat[position][0] for position in order)
        layout = Layout(tuple(axes), (Axis(out, digits),), columns)
        return cls(layout, Embedding(digits, tuple(flat[position][1] for position in order), base_elements))

    @property
    def size_elements(self) -> int:
        """One more than the largest address in use: what to allocate."""
        reached = 0
        for column in self.layout.columns:
            reached |= column
        strides = self.embedding.strides_elements
        used = (bit for bit in range(len(strides)) if reached >> bit & 1 and strides[bit] > 0)
        return self.embedding.base_elements + 1 + sum((self.embedding.digits[bit] - 1) * strides[bit] for bit in used)

    def __call__(self, **coordinates: int) -> int:
        """The address of one element."""
        return self.embedding(self.layout(**coordinates)[self.layout.outs[0].name])

    def table(self) -> npt.NDArray[np.int64]:
        """The address of every element, shaped like the tile."""
        return self.embedding.addresses(self.layout.table()[..., 0])

    def with_stages(self, num_stages: int, alignment_elements: int = 1) -> MemoryLayout:
        """`num_stages` copies behind each other, each at a multiple of the alignment, selected by a new first input axis "stage"."""
        if self.layout.has_input(STAGE):
            raise LayoutError("this memory layout already has stages")
        stride = -(-self.size_elements // alignment_elements) * alignment_elements
        digits = factor(num_stages)
        axis = self.layout.outs[0]
        first = len(axis.digits)
        columns = (*(1 << (first + digit) for digit in range(len(digits))), *self.layout.columns)
        layout = Layout((Axis(STAGE, digits), *self.layout.ins), (Axis(axis.name, axis.digits + digits),), columns)
        strides = tuple(stride * place for place in place_values(digits))
        embedding = Embedding(axis.digits + digits, self.embedding.strides_elements + strides, self.embedding.base_elements)
        return MemoryLayout(layout, embedding)
