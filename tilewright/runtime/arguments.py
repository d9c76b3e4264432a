"""From a Python call of a compiled kernel to its native slots and back to what the call returns (floor 7)."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from tilewright.codegen.slots import Slot
from tilewright.errors import CompilerBug, Kind, fail
from tilewright.ir.program import Program
from tilewright.ir.stmt import Assert
from tilewright.runtime.argument_checks import Callee
from tilewright.runtime.call_reader import CallReader
from tilewright.runtime.fast_path import FastPath, build_fast_path
from tilewright.runtime.frames import CallFrame, FramePool
from tilewright.runtime.nibbles import pack_nibbles, unpack_nibbles
from tilewright.runtime.stub import LaunchSignature, ScalarArgument, ScalarKind, ScalarValue, Stub, make_stub
from tilewright.runtime.tensors import array_address

__all__ = ["CallPlan"]


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
        self._reader = CallReader(program, self._callee, self._slots, self._outputs)
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
        found, words, checked = self._reader.read_words(arguments)
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
        status = self._entry(*(words if self._reader.arrange is None else self._reader.arrange(words)))
        if status is not None:
            if status is NotImplemented:
                raise CompilerBug(f"the slots of {self._program.name} are no 64-bit words")
            self._fail_status(status, frame)
        for position, octets in staged.items():
            self._write_back(position, octets, found[position][2])
        if not outputs:
            return outputs
        like = None if checked.first_tensor is None else arguments[checked.first_tensor]
        finish, dtypes = checked.framework.finish, self._reader.output_dtypes
        return [finish(output, shape, dtype, like) for output, shape, dtype in zip(outputs, checked.output_shapes, dtypes, strict=True)]

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
