"""Calls of a compiled GPU program: from Python arguments to launches on a stream (floor 7)."""

from __future__ import annotations

import ctypes
import functools
import math
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn

from tilewright.codegen.llvm.launcher import MAX_GRID, OVERSIZED_GRID
from tilewright.codegen.slots import Slot
from tilewright.dtypes import uint8
from tilewright.errors import CompilerBug, Kind, fail
from tilewright.ir.program import Program
from tilewright.ir.stmt import Assert
from tilewright.runtime.argument_checks import Callee
from tilewright.runtime.call_reader import CallReader, CheckedCall
from tilewright.runtime.cuda_driver import CudaDriver, CudaError, GpuDevice, fail_driver, require_driver
from tilewright.runtime.cuda_fast_path import CudaFastPath, build_cuda_fast_path
from tilewright.runtime.cuda_modules import KernelNeeds, LoadedKernels, registry_of
from tilewright.runtime.cuda_streams import current_stream, stream_handle, using_stream
from tilewright.runtime.launch_signature import BoundWord, LaunchSignature, ScalarArgument, ScalarKind, ScalarValue, TorchStream
from tilewright.runtime.llvm_jit import LoadedCode
from tilewright.runtime.stub import Stub, make_stub
from tilewright.runtime.tensors import Framework, Place, TorchTensors
from tilewright.runtime.torch_layout import TorchLayout, find_torch_layout, torch_layout

# Source: CUDA Driver API, CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE.
_TOO_MANY_BLOCKS = 720


@dataclass(frozen=True, eq=False)
class GpuProgram:
    """A program ready to be loaded on devices.

    program     as traced; `slots` is what its launcher reads before the stream, the context and the functions.
    launcher    links the native entry with the driver's functions, given by symbol.
    image_for   the cubin for a device; raises TileError where the code cannot run there.
    kernels     in the order of the launcher's functions.
    asserts     status n means that asserts[n - 1] failed.
    """

    program: Program
    slots: tuple[Slot, ...]
    launcher: Callable[[dict[str, int]], LoadedCode]
    image_for: Callable[[GpuDevice], bytes]
    kernels: tuple[KernelNeeds, ...]
    asserts: tuple[Assert, ...] = ()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A call with its arguments checked and its memory allocated; `words` ends before the stream."""

    words: tuple[int, ...]
    outputs: list[Any]
    checked: CheckedCall
    loaded: LoadedKernels
    alive: tuple[Any, ...]


class CudaCallPlan:
    """A GPU program as a function of positional Python arguments: the parameters in order, outputs left out.

    written, unused, outputs   as for a CallPlan.
    slow_because               why calls with torch tensors go the long way; empty where they do not, or none was made yet.

    A call launches on the device of its tensors and returns before the kernels have run; with asserts in the program it waits for them. It gives one
    output as a tensor of the caller's framework, several as a list, None where there is none. The stream is the current one of torch or cupy, or `stream`.

    Raises TileError where an argument does not suit its parameter, an assert fails, the driver refuses, or code would be loaded during a capture.
    """

    def __init__(self, gpu: GpuProgram, *, written: Collection[str] = (), unused: Collection[str] = (), outputs: Sequence[int] = ()) -> None:
        self._gpu, program = gpu, gpu.program
        self._outputs = tuple(program.parameters[k] for k in outputs)
        inputs = tuple(p for p in program.parameters if p not in self._outputs)
        self._callee = Callee(program.name, program.span, program.parameters, inputs, frozenset(written), frozenset(unused), Place.GPU)
        self._reader = CallReader(program, self._callee, gpu.slots, self._outputs)
        self._loaded: dict[int, LoadedKernels] = {}
        self._fast_paths: dict[int, CudaFastPath | None] = {}
        self._fast: CudaFastPath | None = None  # of the device that was used last
        self._bare_stub: Stub | None = None  # of `_fast`, where a launch is all that a call does
        self._assert_lock = threading.Lock()
        self._status: tuple[int, Any] = (0, None)  # address of the word that a failed assert on any device writes to; 0 until one is needed
        self.slow_because = ""

    def __call__(self, *arguments: Any, stream: Any = None) -> Any:
        """Launches the kernels."""
        if stream is None:
            if self._bare_stub is not None:
                status = self._bare_stub(*arguments)
                if status is None:
                    return None
                if status is not NotImplemented:
                    self.fail_status(status)
            elif self._fast is not None:
                status, made = self._fast.call(arguments)
                if status is None:
                    return (made[0] if len(made) == 1 else made) if made else None
                if status is not NotImplemented:
                    self.fail_status(status)
        outputs = self._call(arguments, stream)
        return (outputs[0] if len(outputs) == 1 else outputs) if outputs else None

    def bind(self, *arguments: Any, stream: Any = None) -> BoundCall:
        """The call with these arguments, checked once."""
        prepared = self._prepare(arguments, stream)
        return BoundCall(self, prepared, arguments, None if stream is None else stream_handle(stream))

    # -- what a launch needs besides its arguments
    @functools.cached_property
    def _driver(self) -> CudaDriver:
        return require_driver(f"a call of {self._gpu.program.name}")

    @functools.cached_property
    def _code(self) -> LoadedCode:
        try:
            return self._gpu.launcher(self._driver.entry_points())
        except CudaError as error:
            fail_driver(error, "looking up its functions")

    @functools.cached_property
    def _entry(self) -> Stub:
        """The launcher as a function of one word for each slot, the stream, the context and the functions."""
        count = len(self._gpu.slots) + 2 + len(self._gpu.kernels)
        words = LaunchSignature((ScalarArgument(ScalarKind.UINT64),) * count, tuple(ScalarValue(k) for k in range(count)))
        return make_stub(words, self._code.entry_address, self._code)

    def _load(self, ordinal: int) -> LoadedKernels:
        loaded = self._loaded.get(ordinal)
        if loaded is None:
            loaded = registry_of(self._driver).load(self._gpu.program.name, ordinal, self._gpu.image_for, self._gpu.kernels)
            with self._assert_lock:
                if self._gpu.asserts and not self._status[0]:
                    self._status = self._driver.host_word(ordinal)
            self._loaded[ordinal] = loaded
        return loaded

    # -- every call
    def _call(self, arguments: tuple[Any, ...], stream: Any) -> Sequence[Any]:
        prepared = self._prepare(arguments, stream)
        handle = current_stream(prepared.loaded.ordinal) if stream is None else stream_handle(stream)
        self.launch(prepared.words, handle, prepared.loaded)
        if isinstance(prepared.checked.framework, TorchTensors):
            self._use_fast_path(prepared.loaded, prepared.checked.framework)
        return self._finished(prepared, arguments)

    def _use_fast_path(self, loaded: LoadedKernels, torch: TorchTensors) -> None:
        """The next call with such arguments takes the fast path, if there is one. A failed assert is looked for after every call, which it does not do."""
        if loaded.ordinal not in self._fast_paths:
            self._fast_paths[loaded.ordinal] = self._build_fast_path(loaded, torch)
        self._fast = self._fast_paths[loaded.ordinal]
        self._bare_stub = self._fast.stub if self._fast is not None and self._fast.is_bare else None

    def _build_fast_path(self, loaded: LoadedKernels, torch: TorchTensors) -> CudaFastPath | None:
        layout = find_torch_layout(Place.GPU)
        if self._gpu.asserts:
            self.slow_because = "asserts are looked for after every call"
        elif not isinstance(layout, TorchLayout):
            self.slow_because = layout
        else:
            program, entry = self._gpu.program, self._code.entry_address
            fast = build_cuda_fast_path(program, self._callee, self._gpu.slots, self._outputs, entry, self._code, loaded, torch, layout)
            self.slow_because = "" if fast is not None else "a parameter, a dimension or a check of the program needs Python"
            return fast
        return None

    def _prepare(self, arguments: tuple[Any, ...], stream: Any) -> _Prepared:
        found, words, checked = self._reader.read_words(arguments)
        ordinal = int(checked.device.split(":")[1])
        loaded = self._load(ordinal)
        # Memory is freed in the order of the stream that it was allocated on, which must be the one that the kernels run on.
        with nullcontext() if stream is None else using_stream(stream_handle(stream), ordinal):
            outputs = [allocate() for allocate in checked.allocators]
            words += [checked.framework.address(output) for output in outputs]
            workspace = self._workspace(checked)
        if workspace is not None:
            base = workspace[1]
            words += [base + offset for offset in checked.workspace_offsets]
        words += checked.symbol_words
        words.append(self._status[0])
        arranged = words if self._reader.arrange is None else self._reader.arrange(words)
        return _Prepared(tuple(arranged), outputs, checked, loaded, (found, workspace))

    def _workspace(self, checked: CheckedCall) -> tuple[Any, int] | None:
        """Memory for all workspaces of a call, and its address."""
        if not checked.workspace_bytes:
            return None
        framework: Framework = checked.framework
        memory = framework.allocator((checked.workspace_bytes,), uint8, checked.device)()
        return memory, framework.address(memory)

    def _finished(self, prepared: _Prepared, arguments: tuple[Any, ...]) -> Sequence[Any]:
        checked, outputs = prepared.checked, prepared.outputs
        if not outputs:
            return outputs
        like = None if checked.first_tensor is None else arguments[checked.first_tensor]
        finish, dtypes = checked.framework.finish, self._reader.output_dtypes
        return [finish(output, shape, dtype, like) for output, shape, dtype in zip(outputs, checked.output_shapes, dtypes, strict=True)]

    def launch(self, words: Sequence[int], stream: int, loaded: LoadedKernels) -> None:
        """Launches with the words of all slots. Raises TileError as a call does."""
        if self._gpu.asserts:
            with self._assert_lock:
                self._report_asserts()  # of a graph that was replayed since
                status = self._entry(*words, stream, loaded.context, *loaded.functions)
                if status is not None:
                    self._clear_status()
        else:
            status = self._entry(*words, stream, loaded.context, *loaded.functions)
        if status is not None:
            self.fail_status(status, loaded)

    def bound_launch(self, prepared: _Prepared, stream: int | None) -> Stub | None:
        """A launch with these words as a function without arguments; None where Python must look at asserts, or for the stream."""
        layout = torch_layout(Place.GPU) if isinstance(prepared.checked.framework, TorchTensors) else None
        if self._gpu.asserts or (stream is None and layout is None):
            return None
        loaded = prepared.loaded
        words = (loaded.ordinal, stream or 0, *prepared.words, loaded.context, *loaded.functions)
        bound = [BoundWord(k) for k in range(2, len(words))]
        count = len(prepared.words)
        stream_slot = TorchStream(layout, 0) if stream is None and layout is not None else BoundWord(1)
        signature = LaunchSignature((), (*bound[:count], stream_slot, *bound[count:]), bound_count=len(words))
        return make_stub(signature, self._code.entry_address, self._code, words)

    def _report_asserts(self) -> None:
        status = ctypes.c_int32.from_address(self._status[0]).value
        if status:
            self._clear_status()
            self.fail_status(status)

    def _clear_status(self) -> None:
        ctypes.c_int32.from_address(self._status[0]).value = 0

    def fail_status(self, status: Any, loaded: LoadedKernels | None = None) -> NoReturn:
        """Raises what a status of the launcher means; `loaded` are the kernels that it launched, where they are known."""
        program, asserts = self._gpu.program, self._gpu.asserts
        if status is NotImplemented:
            raise CompilerBug(f"the slots of {program.name} are no 64-bit words")
        if 1 <= status <= len(asserts):
            failed = asserts[status - 1]
            fail(
                Kind.DEVICE_ASSERT,
                f"an assert in {program.name} failed: {failed.message or failed.condition}",
                failed.span,
                because=f"`{failed.condition}` did not hold for some block",
                help="the tensors that the kernel writes hold partial results now",
            )
        if OVERSIZED_GRID - len(self._gpu.kernels) < status <= OVERSIZED_GRID:
            launch = program.launches[min(OVERSIZED_GRID - status, len(program.launches) - 1)]
            fail(
                Kind.GRID_EXTENT,
                f"the grid ({', '.join(map(str, launch.grid))}) of {program.name} is too large for these arguments",
                launch.span,
                because=f"a grid has at most {' x '.join(map(str, MAX_GRID))} blocks",
                help="give the largest extent first, or let each block do more",
            )
        if status == -_TOO_MANY_BLOCKS:
            self._fail_waiting_blocks(loaded or next(reversed(self._loaded.values())))
        if OVERSIZED_GRID < status < 0:
            fail_driver(CudaError("cuLaunchKernel", self._driver.error_name(-status), -status), f"launching {program.name}")
        raise CompilerBug(f"{program.name} ended with the unknown status {status}")

    def _fail_waiting_blocks(self, loaded: LoadedKernels) -> NoReturn:
        """Raises TileError (grid-extent) for a launch whose blocks wait for each other, and do not all have room on the device."""
        program, device = self._gpu.program, self._driver.devices()[loaded.ordinal]
        found = []
        for launch, needs, function in zip(program.launches, self._gpu.kernels, loaded.functions, strict=True):
            if launch.grid_barrier is not None:
                count = self._driver.blocks_per_multiprocessor(function, math.prod(launch.threads), needs.dynamic_shared_bytes)
                found.append((count * device.multiprocessors, count, launch))
        room, count, launch = min(found, key=lambda item: item[0])
        fail(
            Kind.GRID_EXTENT,
            f"the grid ({', '.join(map(str, launch.grid))}) of {program.name} has more blocks than wait for each other on {device.name}: {room} have room",
            launch.span,
            because=f"blocks that wait for each other run at the same time, and each of {device.multiprocessors} multiprocessors has room for {count}",
            help=f"launch at most {room} blocks, and let each of them loop over several parts of the work",
        )


class BoundCall:
    """A call whose arguments are fixed: each `()` is a launch and nothing else, fit for benchmarks and for graphs.

    outputs   were allocated once; every call overwrites them, and returns them as a call of the kernel does.
    """

    def __init__(self, plan: CudaCallPlan, prepared: _Prepared, arguments: tuple[Any, ...], stream: int | None) -> None:
        self._plan, self._prepared, self._stream = plan, prepared, stream
        self._alive = arguments
        outputs = plan._finished(prepared, arguments)
        self.outputs = (outputs[0] if len(outputs) == 1 else outputs) if outputs else None
        self._launch = plan.bound_launch(prepared, stream)

    def __call__(self) -> Any:
        if self._launch is not None:
            status = self._launch()
            if status is not None:
                self._plan.fail_status(status)
            return self.outputs
        prepared = self._prepared
        self._plan.launch(prepared.words, current_stream(prepared.loaded.ordinal) if self._stream is None else self._stream, prepared.loaded)
        return self.outputs
