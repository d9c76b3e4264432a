"""From a Python call of a compiled kernel to its native slots and back to what the call returns (floor 7)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tilewright.arith.evaluate import evaluate
from tilewright.codegen.llvm.program import Slot, SlotKind
from tilewright.errors import CompilerBug, Kind, fail
from tilewright.ir.buffer import Buffer, Extent
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Parameter, ParameterKind, Program
from tilewright.ir.stmt import Assert
from tilewright.ir.visit import own_expressions, statements, subexpressions
from tilewright.runtime.argument_checks import Callee, given_itemsize, tensor_buffer
from tilewright.runtime.argument_text import joined, refuse
from tilewright.runtime.fast_path import FastPath, build_fast_path, workspace_sizes_bytes
from tilewright.runtime.frames import CallFrame, FramePool, place_workspaces
from tilewright.runtime.logical_tensors import LogicalTensor, equations_of
from tilewright.runtime.nibbles import pack_nibbles, unpack_nibbles
from tilewright.runtime.scalars import pointer_word, python_float, python_integer, scalar_converter
from tilewright.runtime.stub import LaunchSignature, ScalarArgument, ScalarKind, ScalarValue, Stub, make_stub
from tilewright.runtime.symbols import Equation, SolvedSymbols, free_variables, integer_value, refuse_load, solve_symbols
from tilewright.runtime.tensors import NUMPY, Framework, NotATensorError, array_address, framework_of

__all__ = ["CallPlan"]

_REMEMBERED_CALLS = 256
_Reading = tuple[object, int, Any]  # part of the key of a call, word, and what keeps the memory alive
_Reader = Callable[[Any], _Reading]


@dataclass(frozen=True, slots=True)
class _CheckedCall:
    """All that the dtypes, shapes and strides of a call decide; addresses are looked at in every call.

    masks        address bits that must be 0, by position.
    pairs        (written, other, low, high): the two inputs may overlap where low < address of other - address of written < high.
    staged       positions of tensors that the kernel sees as a packed copy.
    framework    makes the outputs.
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


@dataclass(frozen=True, slots=True)
class _LastCall:
    """The types of a call's arguments, how they are read, the parts of its key, and what was found."""

    kinds: tuple[type, ...]
    readers: tuple[_Reader, ...]
    key: list[object]
    checked: _CheckedCall | None


class CallPlan:
    """A compiled kernel as a function of positional Python arguments: the parameters in order, outputs left out.

    program        as traced; `slots` is what its native entry `i32 entry(ptr slots)` at `entry_address` reads.
    written        names of parameters that the kernel may write.
    unused         names of parameters that no statement touches: None may be given for them.
    outputs        positions of the parameters that a call allocates, in the order in which it returns them.
    asserts        status n of the entry means that asserts[n - 1] failed.
    owner          what keeps the entry's code alive.

    A call gives one output as a tensor, several as a list, and None where there is none. Outputs belong to the framework of the first tensor
    argument, numpy where there is none. It may be called from several threads at once.

    Raises TileError where an argument does not suit its parameter or an assert of the kernel fails; CompilerBug for an unknown status.
    """

    def __init__(
        self,
        program: Program,
        slots: Sequence[Slot],
        entry_address: int,
        *,
        written: Collection[str] = (),
        unused: Collection[str] = (),
        outputs: Sequence[int] = (),
        asserts: Sequence[Assert] = (),
        owner: object = None,
    ) -> None:
        self._program, self._slots, self._asserts = program, tuple(slots), tuple(asserts)
        self._entry_address, self._owner = entry_address, owner
        self._outputs = tuple(program.parameters[k] for k in outputs)
        inputs = tuple(p for p in program.parameters if p not in self._outputs)
        self._callee = Callee(program.name, program.span, program.parameters, inputs, frozenset(written), frozenset(unused))
        self._output_dtypes = tuple(p.buffer.dtype.scalar for p in self._outputs if p.buffer is not None)
        self._checked: dict[tuple[object, ...], _CheckedCall] = {}
        self._readers: dict[tuple[type, ...], tuple[_Reader, ...]] = {}
        self._last = _LastCall((), (), [], None)
        self._keyed = self._keyed_variables()
        self._symbols = tuple(s.symbol for s in self._slots if s.symbol is not None)
        self._arrange = self._arrangement()
        self._frames = FramePool()
        # Calls that keep no state share one status word: without asserts nothing writes it.
        self._shared_frame = CallFrame() if not self._asserts and not program.workspaces else None
        self._shared_status = 0 if self._shared_frame is None else self._shared_frame.status_address

    def __call__(self, *arguments: Any) -> Any:
        """Runs the kernel."""
        bare_stub = self._bare_stub
        if bare_stub is not None:
            status = bare_stub(*arguments, self._shared_status)
            if status is None:
                return None
            if status is not NotImplemented:
                self._fail_status(status, None)
        outputs = self._call(arguments)
        return (outputs[0] if len(outputs) == 1 else outputs) if outputs else None

    # -- built at first use
    @functools.cached_property
    def _fast_path(self) -> FastPath | None:
        return build_fast_path(self._program, self._callee, self._slots, self._outputs, self._entry_address, self._owner)

    @functools.cached_property
    def _bare_stub(self) -> Stub | None:
        """The stub of a kernel whose calls keep no state and return nothing."""
        fast = self._fast_path
        return fast.stub if fast is not None and fast.is_bare and self._shared_frame is not None else None

    @functools.cached_property
    def _entry(self) -> Stub:
        """The entry as a function of one unsigned word per slot."""
        count = len(self._slots)
        words = LaunchSignature((ScalarArgument(ScalarKind.UINT64),) * count, tuple(ScalarValue(k) for k in range(count)))
        return make_stub(words, self._entry_address, self._owner)

    # -- every call
    def _call(self, arguments: tuple[Any, ...]) -> Sequence[Any]:
        frame = self._shared_frame or self._frames.take()
        fast = self._fast_path
        outputs: Sequence[Any]
        if fast is not None and self._bare_stub is None:
            status, outputs = fast.call(arguments, frame)
            if status is None:
                self._give_back(frame)
                return outputs
            if status is not NotImplemented:
                self._fail_status(status, frame)
        outputs = self._call_checked(arguments, frame)
        self._give_back(frame)
        return outputs

    def _call_checked(self, arguments: tuple[Any, ...], frame: CallFrame) -> Sequence[Any]:
        found, checked = self._read(arguments)
        words = [word for _, word, _ in found]
        for position, mask in checked.masks:
            if words[position] & mask:
                self._callee.fail_alignment(self._callee.inputs[position], words[position] & mask)
        for written, other, low, high in checked.pairs:
            if low < words[other] - words[written] < high:
                self._callee.check_overlap(self._callee.inputs[written], self._callee.inputs[other], (arguments[written], arguments[other]))
        staged = {position: pack_nibbles(found[position][2]) for position in checked.staged} if checked.staged else {}
        for position, octets in staged.items():
            words[position] = array_address(octets)
        outputs = [allocate() for allocate in checked.allocators] if checked.allocators else ()
        if outputs:
            words += [checked.framework.address(output) for output in outputs]
        if checked.workspace_bytes:
            base = frame.workspace(checked.workspace_bytes)
            words += [base + offset for offset in checked.workspace_offsets]
        words += checked.symbol_words
        words.append(frame.status_address)
        status = self._entry(*(words if self._arrange is None else self._arrange(words)))
        if status is not None:
            if status is NotImplemented:
                raise CompilerBug(f"the slots of {self._program.name} are no 64-bit words")
            self._fail_status(status, frame)
        for position, octets in staged.items():
            self._write_back(position, octets, found[position][2])
        if not outputs:
            return outputs
        like = None if checked.first_tensor is None else arguments[checked.first_tensor]
        finish, dtypes = checked.framework.finish, self._output_dtypes
        return [finish(output, shape, dtype, like) for output, shape, dtype in zip(outputs, checked.output_shapes, dtypes, strict=True)]

    def _read(self, arguments: tuple[Any, ...]) -> tuple[list[_Reading], _CheckedCall]:
        """Every argument as its reader gives it, and what is known of such calls."""
        kinds = tuple(map(type, arguments))
        last = self._last  # most calls are like the one before; comparing is quicker than hashing
        checked: _CheckedCall | None
        try:
            readers = last.readers if kinds == last.kinds else self._readers_of(kinds)
            found = [read(argument) for read, argument in zip(readers, arguments, strict=True)]
            key = [part for part, _, _ in found]
            checked = last.checked if readers is last.readers and key == last.key else self._checked.get((kinds, *key))
        except Exception as error:  # any object may be given, and may fail in any way; the checks find out what is wrong with it
            cause = error
        else:
            if checked is None:
                checked = self._check(arguments)
                if len(self._checked) >= _REMEMBERED_CALLS:
                    self._checked.clear()
                self._checked[kinds, *key] = checked
            if checked is not last.checked:
                self._last = _LastCall(kinds, readers, key, checked)
            return found, checked
        self._check(arguments)
        raise CompilerBug(f"an argument of {self._program.name} cannot be read ({type(cause).__name__}: {cause})") from cause

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
            return _read_none if kind is type(None) else _read_pointer
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

    def _write_back(self, position: int, octets: Any, array: Any) -> None:
        parameter = self._callee.inputs[position]
        if parameter.name in self._callee.written and parameter.buffer is not None:
            array[...] = unpack_nibbles(octets, parameter.buffer.dtype)[: array.size].reshape(array.shape)

    def _give_back(self, frame: CallFrame) -> None:
        if frame is not self._shared_frame:
            self._frames.give_back(frame)

    def _fail_status(self, status: int, frame: CallFrame | None) -> NoReturn:
        if frame is not None:
            frame.reset()
            self._give_back(frame)
        if not 1 <= status <= len(self._asserts):
            raise CompilerBug(f"{self._program.name} ended with the unknown status {status}")
        failed = self._asserts[status - 1]
        fail(
            Kind.DEVICE_ASSERT,
            f"an assert in {self._program.name} failed: {failed.message or failed.condition}",
            failed.span,
            because=f"`{failed.condition}` did not hold for some block",
            help="the tensors that the kernel writes hold partial results now",
        )

    # -- once for every combination of dtypes, shapes and strides
    def _check(self, arguments: tuple[Any, ...]) -> _CheckedCall:
        """Every check, in a fixed order. Raises TileError."""
        callee = self._callee
        callee.check_count(len(arguments))
        tensors: dict[int, LogicalTensor] = {}
        frameworks: list[tuple[int, Framework]] = []
        equations: list[Equation] = []
        scalars: dict[Expr, Any] = {}
        for position, (parameter, argument) in enumerate(zip(callee.inputs, arguments, strict=True)):
            if not callee.is_given(parameter, argument):
                continue
            if parameter.kind is ParameterKind.TENSOR:
                framework, tensors[position] = callee.read_tensor(parameter, argument)
                frameworks.append((position, framework))
                equations += equations_of(parameter, tensor_buffer(parameter), tensors[position])
            elif parameter.kind is ParameterKind.POINTER:
                callee.pointer_word(parameter, argument)
            else:
                callee.scalar_word(parameter, argument)
                assert parameter.variable is not None
                scalars[parameter.variable] = _scalar_value(parameter.variable, argument)
        solved = self._solve(equations, scalars)
        first_tensor, framework = frameworks[0] if frameworks else (None, NUMPY)
        shapes = tuple(self._output_shape(p, solved) for p in self._outputs)
        offsets, size_bytes = place_workspaces(workspace_sizes_bytes(self._program.workspaces, solved.values))
        return _CheckedCall(
            masks=tuple((k, tensor_buffer(callee.inputs[k]).dtype.itemsize - 1) for k, t in tensors.items() if not t.is_empty),
            pairs=self._pairs(tensors),
            staged=tuple(k for k, t in tensors.items() if t.is_staged),
            symbol_words=tuple(int(solved.values.get(s, 0)) for s in self._symbols),
            framework=framework,
            first_tensor=first_tensor,
            output_shapes=shapes,
            allocators=tuple(framework.allocator(shape, dtype) for shape, dtype in zip(shapes, self._output_dtypes, strict=True)),
            workspace_offsets=offsets,
            workspace_bytes=size_bytes,
        )

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


def _read_none(argument: None) -> _Reading:
    if argument is not None:
        raise NotATensorError
    return None, 0, None


def _read_pointer(argument: Any) -> _Reading:
    word, given = pointer_word(argument)
    return given is None or given.is_writable, word, given


def _scalar_value(variable: Expr, argument: Any) -> Any:
    if not variable.dtype.is_float:
        return python_integer(argument) if not variable.dtype.is_bool else np.bool_(python_integer(argument))
    return np.float64(python_float(argument)).astype(variable.dtype.numpy)


def _extents(buffer: Buffer) -> tuple[Extent, ...]:
    return (*buffer.shape, *(buffer.given_strides or ()))
