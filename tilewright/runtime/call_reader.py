"""What the arguments of a call are to a kernel: read quickly, checked once per combination of dtypes, shapes and strides (floor 7).

The same for every device: `Place` says where a kernel runs and what it expects of memory there.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.arith.evaluate import evaluate
from tilewright.codegen.slots import Slot, SlotKind
from tilewright.errors import CompilerBug, Kind, fail
from tilewright.ir.buffer import Buffer, Extent
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Parameter, ParameterKind, Program
from tilewright.ir.visit import own_expressions, statements, subexpressions
from tilewright.runtime.argument_checks import Callee, given_itemsize, tensor_buffer
from tilewright.runtime.argument_text import joined, refuse
from tilewright.runtime.cuda_streams import current_device
from tilewright.runtime.cuda_tensors import gpu_framework
from tilewright.runtime.fast_path import workspace_sizes_bytes
from tilewright.runtime.frames import place_workspaces
from tilewright.runtime.logical_tensors import LogicalTensor, equations_of
from tilewright.runtime.scalars import pointer_word, python_float, python_integer, scalar_converter
from tilewright.runtime.symbols import Equation, SolvedSymbols, free_variables, integer_value, refuse_load, solve_symbols
from tilewright.runtime.tensors import CPU, NUMPY, Framework, NotATensorError, Place, framework_of

_REMEMBERED_CALLS = 256
Reading = tuple[object, int, Any]  # part of the key of a call, word, and what keeps the memory alive
_Reader = Callable[[Any], Reading]


@dataclass(frozen=True, slots=True)
class CheckedCall:
    """All that the dtypes, shapes and strides of a call decide; addresses are looked at in every call.

    masks        address bits that must be 0, by position.
    pairs        (written, other, low, high): the two inputs may overlap where low < address of other - address of written < high.
    staged       positions of tensors that the kernel sees as a packed copy.
    framework    makes the outputs on `device`, which is where the tensors are, and the current one of the place where there are none.
    """

    masks: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int, int, int], ...]
    staged: tuple[int, ...]
    symbol_words: tuple[int, ...]
    framework: Framework
    first_tensor: int | None
    output_shapes: tuple[tuple[int, ...], ...]
    allocators: tuple[Callable[[], Any], ...]
    workspace_offsets: tuple[int, ...]
    workspace_bytes: int
    device: str


@dataclass(frozen=True, slots=True)
class _LastCall:
    """The types of a call's arguments, how they are read, the parts of its key, and what was found."""

    kinds: tuple[type, ...]
    readers: tuple[_Reader, ...]
    key: list[object]
    checked: CheckedCall | None


class CallReader:
    """Reads and checks the arguments of calls of one kernel.

    program    as traced; `slots` is what its native entry reads.
    callee     the kernel as its caller sees it.
    outputs    the parameters that a call allocates, in the order in which it returns them.
    """

    def __init__(self, program: Program, callee: Callee, slots: Sequence[Slot], outputs: tuple[Parameter, ...]) -> None:
        self._program, self._callee, self._slots, self._outputs = program, callee, tuple(slots), outputs
        self.output_dtypes = tuple(p.buffer.dtype.scalar for p in outputs if p.buffer is not None)
        self._checked: dict[tuple[object, ...], CheckedCall] = {}
        self._readers: dict[tuple[type, ...], tuple[_Reader, ...]] = {}
        self._last = _LastCall((), (), [], None)
        self._keyed = self._keyed_variables()
        # Without a tensor, an argument may say nothing of a device.
        self._follows_current_device = callee.place is Place.GPU and not any(
            p.kind is ParameterKind.TENSOR and p.name not in callee.unused for p in callee.inputs
        )
        self._symbols = tuple(s.symbol for s in self._slots if s.symbol is not None)
        self.arrange = self._arrangement()

    def read(self, arguments: tuple[Any, ...]) -> tuple[list[Reading], CheckedCall]:
        """Every argument as its reader gives it, and what is known of such calls."""
        kinds = tuple(map(type, arguments))
        last = self._last  # most calls are like the one before; comparing is quicker than hashing
        checked: CheckedCall | None
        try:
            readers = last.readers if kinds == last.kinds else self._readers_of(kinds)
            found = [read(argument) for read, argument in zip(readers, arguments, strict=True)]
            key = [part for part, _, _ in found]
            if self._follows_current_device:
                key.append(current_device())
            checked = last.checked if readers is last.readers and key == last.key else self._checked.get((kinds, *key))
        except Exception as error:  # any object may be given, and may fail in any way; the checks find out what is wrong with it
            cause = error
        else:
            if checked is None:
                checked = self.check(arguments)
                if len(self._checked) >= _REMEMBERED_CALLS:
                    self._checked.clear()
                self._checked[kinds, *key] = checked
            if checked is not last.checked:
                self._last = _LastCall(kinds, readers, key, checked)
            return found, checked
        self.check(arguments)
        raise CompilerBug(f"an argument of {self._program.name} cannot be read ({type(cause).__name__}: {cause})") from cause

    def read_words(self, arguments: tuple[Any, ...]) -> tuple[list[Reading], list[int], CheckedCall]:
        """As `read`, with the words by themselves; addresses are aligned, and tensors apart where they must be. Raises TileError."""
        found, checked = self.read(arguments)
        words, callee = [word for _, word, _ in found], self._callee
        for position, mask in checked.masks:
            if words[position] & mask:
                callee.fail_alignment(callee.inputs[position], words[position] & mask)
        for written, other, low, high in checked.pairs:
            if low < words[other] - words[written] < high:
                callee.check_overlap(callee.inputs[written], callee.inputs[other], (arguments[written], arguments[other]))
        return found, words, checked

    def _readers_of(self, kinds: tuple[Any, ...]) -> tuple[_Reader, ...]:
        readers = self._readers.get(kinds)
        if readers is None:
            if len(self._readers) >= _REMEMBERED_CALLS:
                self._readers.clear()
            readers = self._readers[kinds] = tuple(self._reader(p, kind) for p, kind in zip(self._callee.inputs, kinds, strict=True))
        return readers

    def _reader(self, parameter: Parameter, kind: Any) -> _Reader:
        """How arguments of that type are read."""
        if parameter.variable is None:
            framework = framework_of(kind)
            if kind is type(None) or framework is None:
                return _read_none
            return framework.read
        if parameter.kind is ParameterKind.POINTER:
            return _read_none if kind is type(None) else functools.partial(_read_pointer, self._callee.place)
        convert = scalar_converter(parameter.variable.dtype)
        if parameter.variable in self._keyed:
            return lambda argument: ((word := convert(argument)), word, None)
        return lambda argument: (None, convert(argument), None)

    def _arrangement(self) -> Callable[[list[int]], tuple[int, ...]] | None:
        """From inputs, outputs, workspaces, symbols and status to the order of the slots; None where it is the same."""
        order: list[object] = [*self._callee.inputs, *self._outputs, *self._program.workspaces, *self._symbols, SlotKind.STATUS]
        positions = {item: k for k, item in enumerate(order)}
        chosen = [positions[next(x for x in (s.parameter, s.workspace, s.symbol, s.kind) if x is not None)] for s in self._slots]
        return None if chosen == list(range(len(order))) else operator.itemgetter(*chosen)

    # -- once for every combination of dtypes, shapes and strides
    def check(self, arguments: tuple[Any, ...]) -> CheckedCall:
        """Every check, in a fixed order. Raises TileError."""
        callee = self._callee
        callee.check_count(len(arguments))
        tensors: dict[int, LogicalTensor] = {}
        frameworks: list[tuple[int, Framework]] = []
        devices: list[tuple[Parameter, str]] = []
        equations: list[Equation] = []
        scalars: dict[Expr, Any] = {}
        for position, (parameter, argument) in enumerate(zip(callee.inputs, arguments, strict=True)):
            if not callee.is_given(parameter, argument):
                continue
            if parameter.kind is ParameterKind.TENSOR:
                framework, tensors[position] = callee.read_tensor(parameter, argument)
                frameworks.append((position, framework))
                devices.append((parameter, tensors[position].given.device))
                equations += equations_of(parameter, tensor_buffer(parameter), tensors[position])
            elif parameter.kind is ParameterKind.POINTER:
                pointed = callee.check_pointer(parameter, argument)
                devices += [(parameter, pointed)] if pointed is not None else []
            else:
                callee.scalar_word(parameter, argument)
                assert parameter.variable is not None
                scalars[parameter.variable] = _scalar_value(parameter.variable, argument)
        solved = self._solve(equations, scalars)
        device = callee.check_devices(devices)
        if device is None:
            device = CPU if callee.place is Place.CPU else f"{Place.GPU.value}:{current_device()}"
        first_tensor, framework = frameworks[0] if frameworks else (None, self._default_framework())
        shapes = tuple(self._output_shape(p, solved) for p in self._outputs)
        offsets, size_bytes = place_workspaces(workspace_sizes_bytes(self._program.workspaces, solved.values))
        return CheckedCall(
            masks=tuple((k, callee.place.alignment_bytes(tensor_buffer(callee.inputs[k]).dtype) - 1) for k, t in tensors.items() if not t.is_empty),
            pairs=self._pairs(tensors),
            staged=tuple(k for k, t in tensors.items() if t.is_staged),
            symbol_words=tuple(int(solved.values.get(s, 0)) for s in self._symbols),
            framework=framework,
            first_tensor=first_tensor,
            output_shapes=shapes,
            allocators=tuple(framework.allocator(shape, dtype, device) for shape, dtype in zip(shapes, self.output_dtypes, strict=True)),
            workspace_offsets=offsets,
            workspace_bytes=size_bytes,
            device=device,
        )

    def _default_framework(self) -> Framework:
        """Who makes the outputs of a call without tensors."""
        return NUMPY if self._callee.place is Place.CPU else gpu_framework()

    def _solve(self, equations: list[Equation], scalars: dict[Expr, Any]) -> SolvedSymbols:
        program = self._program
        owners = {p.variable: p for p in program.parameters if p.variable is not None}
        solved = solve_symbols(equations, scalars, owners, program.name)
        for symbol in self._symbols:
            if symbol not in solved.values and symbol in self._needed:
                carriers = [p for p in program.parameters if p.buffer is not None and symbol in {v for n in _extents(p.buffer) for v in free_variables(n)}]
                names = joined([p.name for p in carriers])
                refuse(
                    Kind.UNBOUND_SYMBOL,
                    f"no argument of this call says what {symbol.name} is, which appears in {names}",
                    *carriers,
                    because=f"{program.name} computes with {symbol.name}, and a symbol gets its value from a dimension or stride of an argument",
                    help=f"pass a tensor that has the dimension {symbol.name}, or make it a scalar parameter",
                )
        for check in program.checks:
            if not evaluate(check.condition, solved.values, refuse_load):
                facts = ", ".join(f"{v.name} is {solved.values[v]}" for v in free_variables(check.condition))
                fail(
                    Kind.HOST_ASSERT,
                    f"an assert of {program.name} does not hold: {check.message or check.condition}",
                    check.span,
                    because=f"`{check.condition}` is false" + (f": {facts}" if facts else ""),
                    help="pass arguments that satisfy it",
                )
        return solved

    @functools.cached_property
    def _needed(self) -> frozenset[Expr]:
        """Variables that the kernel computes with; those of untouched parameters alone are not among them."""
        program, found = self._program, set[Expr]()
        roots = [*(c.condition for c in program.checks), *(n for launch in program.launches for n in launch.grid)]
        for launch in program.launches:
            for statement in statements(launch.body):
                roots += own_expressions(statement)
        buffers = [p.buffer for p in program.parameters if p.buffer is not None and p.name not in self._callee.unused]
        for buffer in (*buffers, *program.workspaces, *(p.buffer for p in self._outputs if p.buffer is not None)):
            roots += [n for n in _extents(buffer) if isinstance(n, Expr)]
        for root in roots:
            found.update(node for node in subexpressions(root) if node.op is Op.VAR)
        return frozenset(found)

    def _keyed_variables(self) -> set[Expr]:
        """Scalars whose value decides what a check finds or how large something is."""
        program = self._program
        buffers = [*(p.buffer for p in program.parameters if p.buffer is not None), *program.workspaces]
        extents = [n for b in buffers for n in _extents(b)]
        return {v for extent in (*extents, *(c.condition for c in program.checks)) for v in free_variables(extent)}

    def _output_shape(self, parameter: Parameter, solved: SolvedSymbols) -> tuple[int, ...]:
        buffer = tensor_buffer(parameter)
        shape = tuple(integer_value(n, solved.values) for n in buffer.shape)
        if any(n < 0 for n in shape):
            facts = ", ".join(f"{v.name} is {solved.values[v]}" for n in buffer.shape for v in free_variables(n))
            refuse(
                Kind.ARGUMENT_SHAPE,
                f"{parameter.name}, which {self._program.name} returns, would have the shape {shape}",
                parameter,
                because=facts or "a dimension is negative",
                help="pass larger tensors",
            )
        return (*shape, buffer.dtype.lanes) if buffer.dtype.lanes > 1 else shape

    def _pairs(self, tensors: dict[int, LogicalTensor]) -> tuple[tuple[int, int, int, int], ...]:
        inputs, callee = self._callee.inputs, self._callee
        reach = {k: t.reach_bytes(given_itemsize(inputs[k])) for k, t in tensors.items() if inputs[k].name not in callee.unused and not t.is_empty}
        written = [k for k in reach if inputs[k].name in callee.written]
        return tuple((w, o, reach[w][0] - reach[o][1], reach[w][1] - reach[o][0]) for w in written for o in reach if o != w and (o not in written or w < o))


def _read_none(argument: None) -> Reading:
    if argument is not None:
        raise NotATensorError
    return None, 0, None


def _read_pointer(place: Place, argument: Any) -> Reading:
    word, given = pointer_word(argument, place)
    return (given is None or given.is_writable, None if given is None else given.device), word, given


def _scalar_value(variable: Expr, argument: Any) -> Any:
    if not variable.dtype.is_float:
        return python_integer(argument) if not variable.dtype.is_bool else np.bool_(python_integer(argument))
    return np.float64(python_float(argument)).astype(variable.dtype.numpy)


def _extents(buffer: Buffer) -> tuple[Extent, ...]:
    return (*buffer.shape, *(buffer.given_strides or ()))
