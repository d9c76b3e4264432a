"""Launches that need no checks in Python: every tensor a plain torch tensor of the declared dtype on one GPU (floor 7).

The stub compares what the CPU's does, asks torch for the current stream, and calls the launcher. What it cannot express goes the long way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilewright.codegen.slots import Slot as NativeSlot
from tilewright.dtypes import uint8
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr
from tilewright.ir.program import Parameter, Program
from tilewright.runtime.argument_checks import Callee
from tilewright.runtime.cuda_modules import LoadedKernels
from tilewright.runtime.fast_path import describe_call, workspace_sizes_bytes
from tilewright.runtime.frames import place_workspaces
from tilewright.runtime.framework import Place
from tilewright.runtime.launch_signature import Argument, BoundWord, Extent, LaunchSignature, TorchArgument, TorchStream
from tilewright.runtime.logical_tensors import is_accepted
from tilewright.runtime.stub import Stub, make_stub
from tilewright.runtime.symbols import integer_value
from tilewright.runtime.torch_layout import TorchLayout
from tilewright.runtime.torch_tensors import TorchTensors

_REMEMBERED_SIZES = 256
# Bound words: what is fixed for a program on a device.
_ORDINAL, _CONTEXT, _STATUS, _FUNCTIONS = 0, 1, 2, 3
_Allocate = Callable[[], Any]


class CudaFastPath:
    """One program on one device. `stub` launches it, and takes the outputs and the addresses of the workspaces behind the inputs."""

    def __init__(
        self, stub: Stub, torch: TorchTensors, device: str, outputs: Sequence[Buffer], workspaces: Sequence[Buffer], sources: dict[Expr, tuple[int, int]]
    ) -> None:
        self.stub, self._torch, self._device = stub, torch, device
        self._outputs, self._workspaces = outputs, workspaces
        self._symbols, self._sources = tuple(sources), tuple(sources.values())
        self._sizes: dict[tuple[int, ...], tuple[tuple[_Allocate, ...], tuple[int, ...], _Allocate | None]] = {}
        self.is_bare = not outputs and not workspaces

    def call(self, arguments: tuple[Any, ...]) -> tuple[Any, list[Any]]:
        """The stub's answer, and the outputs."""
        try:
            key = tuple([arguments[position].shape[axis] for position, axis in self._sources])
            allocators, offsets, allocate_workspace = self._sizes.get(key) or self._measure(key)
        except (AttributeError, IndexError, TypeError, ValueError):
            return NotImplemented, []
        outputs = [allocate() for allocate in allocators]
        if allocate_workspace is None:
            return self.stub(*arguments, *outputs), outputs
        workspace = allocate_workspace()  # freed when the call returns: torch gives the memory to later work of the stream only
        base = workspace.data_ptr()
        return self.stub(*arguments, *outputs, *[base + offset for offset in offsets]), outputs

    def _measure(self, key: tuple[int, ...]) -> tuple[tuple[_Allocate, ...], tuple[int, ...], _Allocate | None]:
        values = dict(zip(self._symbols, key, strict=True))
        shapes = [tuple(integer_value(n, values) for n in buffer.shape) for buffer in self._outputs]
        allocators = tuple(self._torch.allocator(shape, b.dtype, self._device) for shape, b in zip(shapes, self._outputs, strict=True))
        offsets, size_bytes = place_workspaces(workspace_sizes_bytes(self._workspaces, values))
        allocate_workspace = self._torch.allocator((size_bytes,), uint8, self._device) if self._workspaces else None
        if len(self._sizes) >= _REMEMBERED_SIZES:
            self._sizes.clear()
        self._sizes[key] = allocators, offsets, allocate_workspace
        return self._sizes[key]


def build_cuda_fast_path(
    program: Program,
    callee: Callee,
    slots: Sequence[NativeSlot],
    outputs: Sequence[Parameter],
    entry_address: int,
    owner: object,
    loaded: LoadedKernels,
    torch: TorchTensors,
    layout: TorchLayout,
) -> CudaFastPath | None:
    """The fast path of a program without asserts on a device; None where it can have none."""

    def make_tensor(buffer: Buffer, shape: tuple[Extent, ...], is_written: bool) -> Argument | None:
        dtype = torch.dtype(buffer.dtype)
        alignment = callee.place.alignment_bytes(buffer.dtype)
        name = str(dtype).removeprefix("torch.")
        if not is_accepted(name, buffer.dtype):
            return None
        return TorchArgument(layout, name, layout.dtype_code(dtype), shape, is_written, buffer.dtype.itemsize, alignment, _ORDINAL)

    call = describe_call(program, callee, slots, outputs, make_tensor, BoundWord(_STATUS))
    if call is None or call.first_tensor is None:  # without a tensor, the device is that of the moment
        return None
    functions = tuple(BoundWord(_FUNCTIONS + k) for k in range(len(loaded.functions)))
    stub_slots = (*call.slots, TorchStream(layout, _ORDINAL), BoundWord(_CONTEXT), *functions)
    signature = LaunchSignature(call.arguments, stub_slots, call.int32_symbols, _FUNCTIONS + len(functions))
    stub = make_stub(signature, entry_address, owner, (loaded.ordinal, loaded.context, 0, *loaded.functions))
    return CudaFastPath(stub, torch, f"{Place.GPU.value}:{loaded.ordinal}", call.outputs, program.workspaces, call.sources)
