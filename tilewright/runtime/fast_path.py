"""Calls that need no checks in Python: every argument a numpy array of the declared dtype, or a plain number (floor 7).

The stub compares rank, dtype, contiguity, fixed dimensions and repeated symbols itself. What it cannot express (strided tensors, derived
dimensions of inputs, 4-bit elements, host asserts) has no fast path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.codegen.slots import Slot as NativeSlot
from tilewright.codegen.slots import SlotKind
from tilewright.dtypes import DType
from tilewright.ir.buffer import Buffer, Extent
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Parameter, ParameterKind, Program
from tilewright.runtime.argument_checks import Callee
from tilewright.runtime.frames import CallFrame, place_workspaces
from tilewright.runtime.stub import Argument, DataPointer, Dimension, LaunchSignature, ScalarArgument, ScalarKind, ScalarValue, Slot, TensorArgument, make_stub
from tilewright.runtime.symbols import free_variables, integer_value

_SCALAR_KINDS = {kind.value: kind for kind in ScalarKind}
_WORD = ScalarArgument(ScalarKind.UINT64)
_REMEMBERED_SIZES = 256


@dataclass(frozen=True, slots=True)
class _Sizes:
    outputs: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    workspace_offsets: tuple[int, ...]
    workspace_bytes: int


class FastPath:
    """One kernel's stub, and what it needs besides the caller's arguments: outputs, workspaces, the status word."""

    def __init__(
        self,
        signature: LaunchSignature,
        entry_address: int,
        owner: object,
        outputs: Sequence[Buffer],
        workspaces: Sequence[Buffer],
        sources: dict[Expr, tuple[int, int]],
        first_tensor: int | None,
    ) -> None:
        self.stub = make_stub(signature, entry_address, owner)
        self._outputs, self._workspaces = outputs, workspaces
        self._symbols = tuple(sources)
        self._sources = tuple(sources.values())
        self._first_tensor = first_tensor
        self._sizes: dict[tuple[int, ...], _Sizes] = {}
        self.is_bare = not outputs and not workspaces  # the stub takes the arguments and the address of the status word

    def call(self, arguments: tuple[Any, ...], frame: CallFrame) -> tuple[Any, list[Any]]:
        """The stub's answer, and the outputs."""
        if self._first_tensor is not None and (len(arguments) <= self._first_tensor or type(arguments[self._first_tensor]) is not np.ndarray):
            return NotImplemented, []
        try:
            key = tuple([arguments[position].shape[axis] for position, axis in self._sources])
            sizes = self._sizes.get(key) or self._measure(key)
            outputs = [np.empty(shape, dtype) for shape, dtype in sizes.outputs]
        except (AttributeError, IndexError, TypeError, ValueError, MemoryError):
            return NotImplemented, []
        if not sizes.workspace_bytes:
            return self.stub(*arguments, *outputs, frame.status_address), outputs
        base = frame.workspace(sizes.workspace_bytes)
        return self.stub(*arguments, *outputs, *[base + offset for offset in sizes.workspace_offsets], frame.status_address), outputs

    def _measure(self, key: tuple[int, ...]) -> _Sizes:
        values = dict(zip(self._symbols, key, strict=True))
        shapes = [tuple(integer_value(n, values) for n in buffer.shape) for buffer in self._outputs]
        offsets, size_bytes = place_workspaces(workspace_sizes_bytes(self._workspaces, values))
        sizes = _Sizes(tuple((shape, b.dtype.numpy) for shape, b in zip(shapes, self._outputs, strict=True)), offsets, size_bytes)
        if len(self._sizes) >= _REMEMBERED_SIZES:
            self._sizes.clear()
        self._sizes[key] = sizes
        return sizes


def workspace_sizes_bytes(workspaces: Sequence[Buffer], values: dict[Expr, Any]) -> tuple[int, ...]:
    """Bytes of each workspace."""
    return tuple(-(-math.prod(max(integer_value(n, values), 0) for n in w.shape) * w.dtype.storage_bits // 8) for w in workspaces)


def build_fast_path(
    program: Program, callee: Callee, slots: Sequence[NativeSlot], outputs: Sequence[Parameter], entry_address: int, owner: object
) -> FastPath | None:
    """The fast path of a kernel; None where it can have none."""
    if program.checks:
        return None
    names = _SymbolNames()
    sources: dict[Expr, tuple[int, int]] = {}
    arguments: list[Argument] = []
    positions: dict[Parameter, int] = {}
    for parameter in callee.inputs:
        argument = _input_argument(parameter, callee, names)
        if argument is None:
            return None
        positions[parameter] = len(arguments)
        for axis, extent in enumerate(parameter.buffer.shape if parameter.buffer is not None else ()):
            if isinstance(extent, Expr):
                sources.setdefault(extent, (len(arguments), axis))
        arguments.append(argument)
    if any(p.variable in sources for p in program.parameters if p.variable is not None):
        return None  # a scalar that is also a dimension
    for parameter in outputs:
        buffer = parameter.buffer
        if buffer is None or not _is_plain(buffer):
            return None
        # Fresh memory: no need to compare its shape or to look for overlaps.
        positions[parameter] = len(arguments)
        arguments.append(TensorArgument(buffer.dtype.numpy, tuple(names.fresh() for _ in buffer.shape), is_written=False))
    first_word = len(arguments)
    words = [s for s in slots if s.kind in (SlotKind.WORKSPACE, SlotKind.STATUS)]
    arguments += [_WORD] * len(words)
    stub_slots: list[Slot] = []
    for slot in slots:
        if slot.kind is SlotKind.SYMBOL:
            if slot.symbol not in sources:
                return None
            stub_slots.append(Dimension(*sources[slot.symbol]))
        elif slot.parameter is not None:
            stub_slots.append((DataPointer if slot.kind is SlotKind.TENSOR else ScalarValue)(positions[slot.parameter]))
        else:
            stub_slots.append(ScalarValue(first_word + words.index(slot)))
    buffers = [p.buffer for p in outputs if p.buffer is not None]
    needed = {v for b in (*buffers, *program.workspaces) for n in b.shape for v in free_variables(n)}
    if any(v not in sources for v in needed):
        return None
    first_tensor = next((k for k, p in enumerate(callee.inputs) if p.kind is ParameterKind.TENSOR), None)
    int32_symbols = frozenset(names.of(v) for v in sources if v.dtype.bits <= 32)
    return FastPath(
        LaunchSignature(tuple(arguments), tuple(stub_slots), int32_symbols),
        entry_address,
        owner,
        buffers,
        program.workspaces,
        {v: place for v, place in sources.items() if v in needed},
        first_tensor,
    )


class _SymbolNames:
    """The stub's names for symbols: two symbols of one name stay two."""

    def __init__(self) -> None:
        self._names: dict[Expr, str] = {}
        self._count = 0

    def fresh(self) -> str:
        self._count += 1
        return f"s{self._count}"

    def of(self, symbol: Expr) -> str:
        return self._names.get(symbol) or self._names.setdefault(symbol, self.fresh())


def _input_argument(parameter: Parameter, callee: Callee, names: _SymbolNames) -> Argument | None:
    if parameter.kind is ParameterKind.POINTER:
        return _WORD
    if parameter.buffer is None:
        kind = _SCALAR_KINDS.get(parameter.variable.dtype) if parameter.variable is not None else None
        return None if kind is None else ScalarArgument(kind)
    buffer = parameter.buffer
    if not _is_plain(buffer) or not all(_is_simple(n) for n in buffer.shape):
        return None
    shape = tuple(names.of(n) if isinstance(n, Expr) else n for n in buffer.shape)
    return TensorArgument(buffer.dtype.numpy, shape, parameter.name in callee.written, buffer.dtype.itemsize)


def _is_simple(extent: Extent) -> bool:
    return isinstance(extent, int) or extent.op is Op.VAR


def _is_plain(buffer: Buffer) -> bool:
    dtype: DType = buffer.dtype
    return buffer.given_strides is None and dtype.lanes == 1 and not dtype.is_packed and np.dtype(dtype.numpy.name) is dtype.numpy
