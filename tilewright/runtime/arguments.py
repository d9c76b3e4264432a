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
from tilewright.runtime.tensors import NUMPY, Framework, array_address, framework_of

__all__ = ["CallPlan"]

_REMEMBERED_CALLS = 256


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two inputs, one of them written, with the bytes that each reaches relative to its address."""

    written: int
    written_begin: int
    written_end: int
    other: int
    other_begin: int
    other_end: int


@dataclass(frozen=True, slots=True)
class _CheckedCall:
    """All that the dtypes, shapes and strides of a call decide; addresses are looked at in every call.

    masks        address bits that must be 0, by position.
    staged       positions of tensors that the kernel sees as a packed copy.
    framework    makes the outputs.
    """

    masks: tuple[tuple[int, int], ...]
    pairs: tuple[_Pair, ...]
    staged: tuple[int, ...]
    symbol_words: tuple[int, ...]
    framework: Framework
    first_tensor: int | None
    output_shapes: tuple[tuple[int, ...], ...]
    allocators: tuple[Callable[[], Any], ...]
    workspace_offsets: tuple[int, ...]
    workspace_bytes: int


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

    def __init__(self, program: Program, slots: Sequence[Slot], entry_address: int, *, written: Collection[str] = (), unused: Collection[str] = (),
                 outputs: Sequence[int] = (), asserts: Sequence[Assert] = (), owner: object = None) -> None:
        self._program, self._slots, self._asserts = program, tuple(slots), tuple(asserts)
        self._entry_address, self._owner = entry_address, owner
        self._outputs = tuple(program.parameters[k] for k in outputs)
        inputs = tuple(p for p in program.parameters if p not in self._outputs)
        self._callee = Callee(program.name, program.span, program.parameters, inputs, frozenset(written), frozenset(unused))
        self._output_dtypes = tuple(p.buffer.dtype.scalar for p in self._outputs if p.buffer is not None)
        self._frames = FramePool()
        self._unwritten_frame = CallFrame()
        self._unwritten_status = self._unwritten_frame.status_address
        self._checked: dict[tuple[object, ...], _CheckedCall] = {}
        keyed = self._keyed_variables()
        self._readers = tuple(self._reader(p, p.variable in keyed) for p in inputs)
        self._symbols = tuple(s.symbol for s in self._slots if s.symbol is not None)
        self._arrange = self._arrangement()

    def __call__(self, *arguments: Any) -> Any:
        """Runs the kernel."""
        bare_stub = self._bare_stub
        if bare_stub is not None:
            status = bare_stub(*arguments, self._unwritten_status)
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
        """The stub of a kernel that keeps no state during a call. All calls share one status word: without asserts none writes it."""
        is_bare = self._fast_path is not None and self._fast_path.is_bare and not self._asserts
        return self._fast_path.stub if is_bare and self._fast_path is not None else None

    @functools.cached_property
    def _entry(self) -> Stub:
        """The entry as a function of one unsigned word per slot."""
        count = len(self._slots)
        words = LaunchSignature((ScalarArgument(ScalarKind.UINT64),) * count, tuple(ScalarValue(k) for k in range(count)))
        return make_stub(words, self._entry_address, self._owner)

    # -- every call
    def _call(self, arguments: tuple[Any, ...]) -> list[Any]:
        frame = self._frames.take()
        if self._fast_path is not None and self._bare_stub is None:
            status, outputs = self._fast_path.call(arguments, frame)
            if status is None:
                self._frames.give_back(frame)
                return outputs
            if status is not NotImplemented:
                self._fail_status(status, frame)
        outputs = self._call_checked(arguments, frame)
        self._frames.give_back(frame)
        return outputs

    def _call_checked(self, arguments: tuple[Any, ...], frame: CallFrame) -> list[Any]:
        key, words, views, checked = self._read(arguments)
        if checked is None:
            checked = self._check(arguments)
            if len(self._checked) >= _REMEMBERED_CALLS:
                self._checked.clear()
            self._checked[key] = checked
        for position, mask in checked.masks:
            if words[position] & mask:
                self._callee.fail_alignment(self._callee.inputs[position], words[position] & mask)
        for pair in checked.pairs:
            written, other = words[pair.written], words[pair.other]
            if written + pair.written_begin < other + pair.other_end and other + pair.other_begin < written + pair.written_end:
                self._callee.check_overlap(self._callee.inputs[pair.written], self._callee.inputs[pair.other], (arguments[pair.written], arguments[pair.other]))
        staged = [pack_nibbles(views[position]) for position in checked.staged]
        for position, octets in zip(checked.staged, staged, strict=True):
            words[position] = array_address(octets)
        framework = checked.framework
        outputs = [allocate() for allocate in checked.allocators]
        words += [framework.address(output) for output in outputs]
        if checked.workspace_bytes:
            base = frame.workspace(checked.workspace_bytes)
            words += [base + offset for offset in checked.workspace_offsets]
        words += checked.symbol_words
        words.append(frame.status_address)
        status = self._entry(*self._arrange(words))
        if status is not None:
            if status is NotImplemented:
                raise CompilerBug(f"the slots of {self._program.name} are no 64-bit words")
            self._fail_status(status, frame)
        for position, octets in zip(checked.staged, staged, strict=True):
            self._write_back(position, octets, views[position])
        if not outputs:
            return outputs
        like = None if checked.first_tensor is None else arguments[checked.first_tensor]
        return [framework.finish(output, shape, dtype, like) for output, shape, dtype in zip(outputs, checked.output_shapes, self._output_dtypes, strict=True)]

    def _read(self, arguments: tuple[Any, ...]) -> tuple[tuple[object, ...], list[int], list[Any], _CheckedCall | None]:
        """The key of a call, word and view of every argument, and what is known of such calls."""
        key: list[object] = []
        words: list[int] = []
        views: list[Any] = []
        try:
            for reader, argument in zip(self._readers, arguments, strict=True):
                reader(argument, key, words, views)
            made = tuple(key)
            return made, words, views, self._checked.get(made)
        except Exception as error:  # any object may be given, and may fail in any way; the checks find out what is wrong with it
            cause = error
        self._check(arguments)
        raise CompilerBug(f"an argument of {self._program.name} cannot be read ({type(cause).__name__}: {cause})") from cause

    def _reader(self, parameter: Parameter, is_keyed: bool) -> Callable[[Any, list[object], list[int], list[Any]], None]:
        if parameter.kind is ParameterKind.TENSOR:
            return _read_tensor
        if parameter.kind is ParameterKind.POINTER:
            return self._read_pointer
        variable = parameter.variable
        assert variable is not None
        convert = scalar_converter(variable.dtype)

        def read_scalar(argument: Any, key: list[object], words: list[int], views: list[Any]) -> None:
            word = convert(argument)
            words.append(word)
            views.append(None)
            if is_keyed:
                key.append(word)

        return read_scalar

    def _read_pointer(self, argument: Any, key: list[object], words: list[int], views: list[Any]) -> None:
        word, given = (0, None) if argument is None else pointer_word(argument)
        words.append(word)
        views.append(given)
        key.append(None if argument is None else given is None or given.is_writable)

    def _arrangement(self) -> Callable[[list[int]], tuple[int, ...]]:
        """From inputs, outputs, workspaces, symbols and status to the order of the slots."""
        order: list[object] = [*self._callee.inputs, *self._outputs, *self._program.workspaces, *self._symbols, SlotKind.STATUS]
        positions = {item: k for k, item in enumerate(order)}
        chosen = [positions[next(x for x in (s.parameter, s.workspace, s.symbol, s.kind) if x is not None)] for s in self._slots]
        return operator.itemgetter(*chosen) if len(chosen) > 1 else lambda words: (words[chosen[0]],)

    def _write_back(self, position: int, octets: Any, array: Any) -> None:
        parameter = self._callee.inputs[position]
        if parameter.name in self._callee.written and parameter.buffer is not None:
            array[...] = unpack_nibbles(octets, parameter.buffer.dtype)[: array.size].reshape(array.shape)

    def _fail_status(self, status: int, frame: CallFrame | None) -> NoReturn:
        if frame is not None:
            frame.reset()
            self._frames.give_back(frame)
        if not 1 <= status <= len(self._asserts):
            raise CompilerBug(f"{self._program.name} ended with the unknown status {status}")
        failed = self._asserts[status - 1]
        fail(Kind.DEVICE_ASSERT, f"an assert in {self._program.name} failed: {failed.message or failed.condition}", failed.span,
             because=f"`{failed.condition}` did not hold for some block", help="the tensors that the kernel writes hold partial results now")

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
                refuse(Kind.UNBOUND_SYMBOL, f"no argument of this call says what {symbol.name} is, which appears in {names}", *carriers,
                       because=f"{program.name} computes with {symbol.name}, and a symbol gets its value from a dimension or stride of an argument",
                       help=f"pass a tensor that has the dimension {symbol.name}, or make it a scalar parameter")
        for check in program.checks:
            if not evaluate(check.condition, solved.values, refuse_load):
                facts = ", ".join(f"{v.name} is {solved.values[v]}" for v in free_variables(check.condition))
                fail(Kind.HOST_ASSERT, f"an assert of {program.name} does not hold: {check.message or check.condition}", check.span,
                     because=f"`{check.condition}` is false" + (f": {facts}" if facts else ""), help="pass arguments that satisfy it")
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
            refuse(Kind.ARGUMENT_SHAPE, f"{parameter.name}, which {self._program.name} returns, would have the shape {shape}", parameter,
                   because=facts or "a dimension is negative", help="pass larger tensors")
        return (*shape, buffer.dtype.lanes) if buffer.dtype.lanes > 1 else shape

    def _pairs(self, tensors: dict[int, LogicalTensor]) -> tuple[_Pair, ...]:
        inputs, callee = self._callee.inputs, self._callee
        touched = [k for k, t in tensors.items() if inputs[k].name not in callee.unused and not t.is_empty]
        written = [k for k in touched if inputs[k].name in callee.written]
        pairs = [(w, o) for w in written for o in touched if o != w and (o not in written or w < o)]
        reach = {k: tensors[k].reach_bytes(given_itemsize(inputs[k])) for k in touched}
        return tuple(_Pair(w, *reach[w], o, *reach[o]) for w, o in pairs)


def _read_tensor(argument: Any, key: list[object], words: list[int], views: list[Any]) -> None:
    if argument is None:
        key.append(None)
        words.append(0)
        views.append(None)
        return
    kind: Any = type(argument)
    framework: Any = framework_of(kind)  # None fails like any other unreadable object
    made, address, view = framework.read(argument)
    key.append(made)
    words.append(address)
    views.append(view)


def _scalar_value(variable: Expr, argument: Any) -> Any:
    if not variable.dtype.is_float:
        return python_integer(argument) if not variable.dtype.is_bool else np.bool_(python_integer(argument))
    return np.float64(python_float(argument)).astype(variable.dtype.numpy)


def _extents(buffer: Buffer) -> tuple[Extent, ...]:
    return (*buffer.shape, *(buffer.strides or ()))
