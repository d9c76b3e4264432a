"""`T.print` in running kernels (floor 7): generated code calls back with the number of the statement and its values."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tilewright.dtypes import DType
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr
from tilewright.ir.stmt import Print
from tilewright.ir.tileop import TilePlan
from tilewright.runtime.nibbles import unpack_nibbles

PRINT_SYMBOL = "tw_print"

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.c_void_p)


class PrintTable:
    """What one module's `tw_print` does; it must live as long as the code.

    prints   print statement n of the code is prints[n - 1].
    plans    how tiles are stored.
    write    takes each line, print by default.
    """

    def __init__(self, prints: Sequence[Print], plans: Mapping[Buffer, TilePlan], write: Callable[[str], Any] = print) -> None:
        self._prints, self._plans, self._write = tuple(prints), plans, write
        self._callback = _CALLBACK(self._print)
        self.address: int = ctypes.cast(self._callback, ctypes.c_void_p).value or 0

    def _print(self, number: int, words: int) -> None:
        node = self._prints[number - 1]
        raw = np.ctypeslib.as_array(ctypes.cast(words, ctypes.POINTER(ctypes.c_uint64)), (len(node.values) + 1,))
        values = [_value(word, e.dtype) for word, e in zip(raw, node.values, strict=False)]
        if node.buffer is not None:
            text = str(self._tile(node.buffer, int(raw[len(node.values)]), [int(v) for v in values]))
            self._write(f"{node.message}:\n{text}" if "\n" in text else f"{node.message}: {text}")
        else:
            self._write(" ".join([node.message, *map(str, values)]).strip())

    def _tile(self, buffer: Buffer, address: int, sizes: list[int]) -> Any:
        """The elements of a buffer; `sizes` are those of its symbolic dimensions."""
        given = iter(sizes)
        shape = tuple(next(given) if isinstance(n, Expr) else n for n in buffer.shape)
        plan = self._plans.get(buffer) if buffer.scope is not Scope.GLOBAL else None
        dtype = plan.dtype if plan is not None else buffer.dtype
        if not address or 0 in shape:
            return np.zeros(shape, buffer.dtype.numpy)
        if buffer.dtype.is_packed and buffer.scope is Scope.GLOBAL:
            return unpack_nibbles(_memory(address, -(-int(np.prod(shape)) // 2)), buffer.dtype)[: int(np.prod(shape))].reshape(shape)
        pitch = plan.row_pitch if plan is not None and len(shape) > 1 else shape[-1]
        strides = [dtype.itemsize]
        for extent in (pitch, *shape[-2:0:-1])[: len(shape) - 1]:
            strides.insert(0, strides[0] * extent)
        size_bytes = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + dtype.itemsize
        octets = _memory(address, size_bytes)
        return np.ndarray(shape, dtype.numpy, octets.data, 0, strides).astype(buffer.dtype.numpy)


def _memory(address: int, size_bytes: int) -> Any:
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_uint8)), (size_bytes,)).copy()


def _value(word: Any, dtype: DType) -> Any:
    """The Python value in an 8-byte slot."""
    word = np.uint64(word)
    if dtype.is_float:
        return float(word.view(np.float64)) if dtype.bits == 64 else float(np.uint32(word & np.uint64(0xFFFFFFFF)).view(np.float32))
    if dtype.is_bool:
        return bool(word)
    return int(word.view(np.int64)) if dtype.is_signed else int(word)
