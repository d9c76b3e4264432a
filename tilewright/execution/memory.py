"""Memory of a run in numpy: one flat numpy array per root buffer, views onto it by reshape and reinterpretation (floor 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Kind, Span, error_of
from tilewright.ir.buffer import Buffer, Extent, Scope

Array = np.ndarray[Any, Any]

POISON_BYTE = 0x5A


def poison(dtype: DType) -> Any:
    """What a tile holds before anything is written: NaN, or a bit pattern that is easy to recognise where the dtype has no NaN."""
    if dtype.is_float:
        quiet = np.array(np.nan, np.float64).astype(dtype.numpy)
        return quiet[()] if np.isnan(quiet.astype(np.float64)) else dtype.numpy.type(dtype.maximum)
    if dtype.is_bool:
        return np.bool_(True)
    if dtype.is_packed:
        return dtype.numpy.type(POISON_BYTE & 0x7)
    return np.full(dtype.numpy.itemsize, POISON_BYTE, np.uint8).view(dtype.numpy)[0]


def bits(values: Array) -> Array:
    """The elements as unsigned integers of equal width, for comparisons that tell NaNs and signed zeros apart."""
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def strided(flat: Array, shape: tuple[int, ...], steps: tuple[int, ...]) -> Array:
    """A writable view with these steps in bytes; numpy's own function knows only numpy's own dtypes."""
    return np.lib.stride_tricks.as_strided(flat.view(f"u{flat.dtype.itemsize}"), shape, steps).view(flat.dtype)


def unpack_nibbles(packed: Array, dtype: DType) -> Array:
    """Bytes that hold two 4-bit elements each, low nibble first, as one element per byte: (..., n) to (..., 2 n)."""
    raw = packed.view(np.uint8)
    return np.stack([raw & 0xF, raw >> 4], axis=-1).reshape(*raw.shape[:-1], -1).view(dtype.numpy)


def pack_nibbles(elements: Array) -> Array:
    """The inverse of `unpack_nibbles`, as uint8; an odd last axis is filled up with a zero."""
    raw = elements.view(np.uint8) & 0xF
    if raw.shape[-1] % 2:
        raw = np.concatenate([raw, np.zeros((*raw.shape[:-1], 1), np.uint8)], axis=-1)
    return raw[..., 0::2] | raw[..., 1::2] << 4


class Storage:
    """The elements of one root buffer, flat, one numpy element each.

    A view whose elements are packed where the root's are not (or the other way round) cannot share numpy memory; the storage then changes
    its representation when the other one is asked for, so an array stays valid until the memory is next looked at under another packing.
    """

    def __init__(self, dtype: DType, flat: Array) -> None:
        self.dtype, self.flat = dtype.scalar, flat

    def elements(self, dtype: DType) -> Array:
        """All the memory as `dtype`, writable."""
        dtype = dtype.scalar
        if dtype.is_packed != self.dtype.is_packed:
            raw = pack_nibbles(self.flat) if self.dtype.is_packed else self.flat.view(np.uint8)
            whole = raw.size - raw.size % dtype.numpy.itemsize
            self.flat = unpack_nibbles(raw, dtype) if dtype.is_packed else raw[:whole].view(dtype.numpy)
            self.dtype = dtype
        return self.flat if self.flat.dtype == dtype.numpy else self.flat.view(dtype.numpy)


class Memory:
    """Which storage every buffer of a run has.

    integer    evaluates an extent or a stride.
    pointee    the storage and the element offset in bytes that an address means; raises TileError for addresses that nobody gave.
    initial    what unwritten elements of a dtype hold.
    """

    def __init__(
        self, integer: Callable[[Extent], int], pointee: Callable[[int, Buffer], tuple[Storage, int]], initial: Callable[[DType], Any] = poison
    ) -> None:
        self._integer, self._pointee, self.initial = integer, pointee, initial
        self._storages: dict[Buffer, Storage] = {}
        self._arrays: dict[Buffer, tuple[Array, Array]] = {}

    def bind(self, buffer: Buffer, storage: Storage) -> None:
        """Gives a root buffer its memory."""
        self._storages[buffer] = storage

    def allocate(self, buffers: Iterable[Buffer]) -> None:
        """Fresh memory for root buffers among `buffers`: `initial`, and zero for variables and barriers."""
        for buffer in buffers:
            if buffer.source is None and buffer.pointer is None:
                count = math.prod(self._integer(n) for n in buffer.shape) * buffer.dtype.lanes
                is_zero = buffer.scope in (Scope.VARIABLE, Scope.BARRIER)
                initial = np.zeros((), buffer.dtype.numpy)[()] if is_zero else self.initial(buffer.dtype)
                self.bind(buffer, Storage(buffer.dtype, np.full(max(count, 0), initial, buffer.dtype.numpy)))

    def is_bound(self, buffer: Buffer) -> bool:
        """Whether the buffer has memory: an argument given as None has not."""
        root = buffer.storage
        return root.pointer is not None or root in self._storages

    def storage(self, buffer: Buffer, span: Span | None = None) -> Storage:
        root = buffer.storage
        found = self._storages.get(root)
        if found is None:
            if root.scope is Scope.GLOBAL:
                raise error_of(
                    Kind.ARGUMENT_NONE,
                    f"{root.name} was given as None, but the kernel touches it",
                    span or root.span,
                    because="only a tensor that the body never touches may be None",
                    help="pass an array",
                )
            raise CompilerBug(f"the buffer {root.name} is used outside the block that allocates it")
        return found

    def array(self, buffer: Buffer, span: Span | None = None) -> Array:
        """The buffer's elements in its shape and strides, writable: (*shape), or (*shape, lanes) where the dtype has lanes."""
        root = buffer.storage
        if root.pointer is not None:
            storage, offset_bytes = self._pointee(self._integer(root.pointer), root)
            flat = storage.elements(buffer.dtype)[offset_bytes // buffer.dtype.scalar.itemsize :]
            return self._shaped(buffer, flat)
        storage = self.storage(buffer, span)
        elements = storage.elements(buffer.dtype)
        known = self._arrays.get(buffer)
        if known is None or known[0] is not storage.flat:
            known = self._arrays[buffer] = storage.flat, self._shaped(buffer, elements)
        return known[1]

    def release(self, buffers: Iterable[Buffer]) -> None:
        """Forgets the memory of a block's buffers."""
        for buffer in buffers:
            self._storages.pop(buffer, None)
            self._arrays.pop(buffer, None)

    def _shaped(self, buffer: Buffer, flat: Array) -> Array:
        shape = tuple(self._integer(n) for n in buffer.shape)
        lanes = (buffer.dtype.lanes,) if buffer.dtype.lanes > 1 else ()
        needed = math.prod(shape)
        if buffer.given_strides is not None:
            strides = tuple(self._integer(s) for s in buffer.given_strides)
            needed = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if needed else 0
        if needed * buffer.dtype.lanes > flat.size:
            raise error_of(
                Kind.VIEW_SIZE,
                f"{buffer.name} needs {needed} elements, but its memory holds {flat.size // buffer.dtype.lanes}",
                buffer.span,
                because="a view may not reach past the memory it is made over",
                help="correct the shape, or pass a larger array",
            )
        if buffer.given_strides is None:
            return flat[: needed * buffer.dtype.lanes].reshape(shape + lanes)
        item = flat.dtype.itemsize
        steps = tuple(s * buffer.dtype.lanes * item for s in strides) + ((item,) if lanes else ())
        return strided(flat, shape + lanes, steps)
