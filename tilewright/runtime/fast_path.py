"""Calls that need no checks in Python: every argument a numpy array of the declared dtype, or a plain number (floor 7).

The stub compares rank, dtype, contiguity, fixed dimensions and repeated symbols itself. What it cannot express (strided tensors, derived
dimensions of inputs, 4-bit elements, host asserts) has no fast path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
from tilewright.runtime.launch_signature import Argument, DataPointer, Dimension, LaunchSignature, ScalarArgument, ScalarKind, ScalarValue, Slot, TensorArgument
from tilewright.runtime.launch_signature import Extent as StubExtent
from tilewright.runtime.stub import make_stub
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


@dataclass(frozen=True)
class StubCall:
    """A call as a stub sees it.

    arguments, slots   of its signature: the inputs, the outputs, then one word for each workspace (and for the status, where it is no bound word).
    outputs            buffers of the outputs.
    sources            where the symbols that outputs and workspaces need come from: (argument, axis).
    first_tensor       position of the first tensor among the inputs.
    """

    arguments: tuple[Argument, ...]
    slots: tuple[Slot, ...]
    int32_symbols: frozenset[str]
    outputs: tuple[Buffer, ...]
    sources: dict[Expr, tuple[int, int]]
    first_tensor: int | None


# Makes the argument of a tensor with that shape, written or not; None where the stub cannot take it.
MakeTensor = Callable[[Buffer, tuple[StubExtent, ...], bool], Argument | None]


def describe_call(
    program: Program, callee: Callee, slots: Sequence[NativeSlot], outputs: Sequence[Parameter], make_tensor: MakeTensor, status: Slot | None = None
) -> StubCall | None:
    """How a stub calls a kernel; None where none can. `status` is what goes into the slot of the status word, where it is no word of the call."""
    if program.checks:
        return None
    names = _SymbolNames()
    sources: dict[Expr, tuple[int, int]] = {}
    arguments: list[Argument] = []
    positions: dict[Parameter, int] = {}
    for parameter in callee.inputs:
        argument = _input_argument(parameter, callee, names, make_tensor)
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
        # Fresh memory: no need to compare its shape or to look for overlaps.
        made = make_tensor(buffer, tuple(names.fresh() for _ in buffer.shape), False) if buffer is not None and _is_plain(buffer) else None
        if made is None:
            return None
        positions[parameter] = len(arguments)
        arguments.append(made)
    first_word = len(arguments)
    words = [s for s in slots if s.kind is SlotKind.WORKSPACE or (s.kind is SlotKind.STATUS and status is None)]
    arguments += [_WORD] * len(words)
    stub_slots: list[Slot] = []
    for slot in slots:
        if slot.kind is SlotKind.SYMBOL:
            if slot.symbol not in sources:
                return None
            stub_slots.append(Dimension(*sources[slot.symbol]))
        elif slot.parameter is not None:
            stub_slots.append((DataPointer if slot.kind is SlotKind.TENSOR else ScalarValue)(positions[slot.parameter]))
        elif slot.kind is SlotKind.STATUS and status is not None:
            stub_slots.append(status)
        else:
            stub_slots.append(ScalarValue(first_word + words.index(slot)))
    buffers = tuple(p.buffer for p in outputs if p.buffer is not None)
    needed = {v for b in (*buffers, *program.workspaces) for n in b.shape for v in free_variables(n)}
    if any(v not in sources for v in needed):
        return None
    return StubCall(
        tuple(arguments),
        tuple(stub_slots),
        frozenset(names.of(v) for v in sources if v.dtype.bits <= 32),
        buffers,
        {v: place for v, place in sources.items() if v in needed},
        next((k for k, p in enumerate(callee.inputs) if p.kind is ParameterKind.TENSOR), None),
    )


def build_fast_path(
    program: Program, callee: Callee, slots: Sequence[NativeSlot], outputs: Sequence[Parameter], entry_address: int, owner: object
) -> FastPath | None:
    """The fast path of a kernel for numpy arrays; None where it can have none."""
    call = describe_call(program, callee, slots, outputs, _numpy_argument)
    if call is None:
        return None
    signature = LaunchSignature(call.arguments, call.slots, call.int32_symbols)
    return FastPath(signature, entry_address, owner, call.outputs, program.workspaces, call.sources, call.first_tensor)


def _numpy_argument(buffer: Buffer, shape: tuple[StubExtent, ...], is_written: bool) -> TensorArgument:
    return TensorArgument(buffer.dtype.numpy, shape, is_written, buffer.dtype.itemsize)


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


def _input_argument(parameter: Parameter, callee: Callee, names: _SymbolNames, make_tensor: MakeTensor) -> Argument | None:
    if parameter.kind is ParameterKind.POINTER:
        return _WORD
    if parameter.buffer is None:
        kind = _SCALAR_KINDS.get(parameter.variable.dtype) if parameter.variable is not None else None
        return None if kind is None else ScalarArgument(kind)
    buffer = parameter.buffer
    if not _is_plain(buffer) or not all(_is_simple(n) for n in buffer.shape):
        return None
    shape = tuple(names.of(n) if isinstance(n, Expr) else n for n in buffer.shape)
    return make_tensor(buffer, shape, parameter.name in callee.written)


def _is_simple(extent: Extent) -> bool:
    return isinstance(extent, int) or extent.op is Op.VAR


def _is_plain(buffer: Buffer) -> bool:
    dtype: DType = buffer.dtype
    return buffer.given_strides is None and dtype.lanes == 1 and not dtype.is_packed and np.dtype(dtype.numpy.name) is dtype.numpy
