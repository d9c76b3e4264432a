"""A CUDA driver without a GPU: it records what it is asked, and a launch reads the parameters that the kernel would see.

A kernel may have a body in Python, which is called for each launch; its "device" memory is that of the process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tilewright.runtime.cuda_driver import CudaError, GpuDevice

H100 = GpuDevice(0, "Mock H100", (9, 0), 132, 80 << 30, 50 << 20, 227 * 1024)
_I32, _PTR = ctypes.c_int32, ctypes.c_void_p
_COOPERATIVE, _CLUSTER = 2, 4
_CLUSTER_AT = 8 + 0  # of CUlaunchAttribute: the value


@dataclass(frozen=True)
class MockKernel:
    """How many parameters a kernel has, and what it does with their words."""

    parameter_count: int
    body: Callable[[tuple[int, ...]], None] = lambda words: None


@dataclass(frozen=True)
class Launched:
    """One launch as the driver saw it."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    stream: int
    words: tuple[int, ...]
    context: int
    cluster: tuple[int, int, int] = (1, 1, 1)
    is_cooperative: bool = False


class MockDriver:
    """Everything that the runtime asks of a driver.

    kernels     by name; a module has all of them.
    capturing   streams are being captured.
    broken      what describing the devices raises.
    """

    def __init__(self, *devices: GpuDevice, kernels: dict[str, MockKernel] | None = None, capturing: bool = False, broken: CudaError | None = None) -> None:
        self.found = devices or (H100,)
        self.kernels = kernels or {}
        self.capturing, self.broken = capturing, broken
        self.calls: list[tuple[Any, ...]] = []
        self.launches: list[Launched] = []
        self.context = 0x100
        self.stack: list[int] = []
        self.launch_error = 0
        self.blocks: dict[int, Any] = {}  # what was allocated, by address
        self._names: dict[int, str] = {}
        self._functions = {
            "cuLaunchKernel": ctypes.CFUNCTYPE(_I32, _PTR, *[ctypes.c_uint32] * 7, _PTR, _PTR, _PTR)(self._launch),
            "cuMemsetD32Async": ctypes.CFUNCTYPE(_I32, _PTR, ctypes.c_uint32, ctypes.c_size_t, _PTR)(self._memset),
            "cuLaunchKernelEx": ctypes.CFUNCTYPE(_I32, _PTR, _PTR, _PTR, _PTR)(self._launch_ex),
            "cuCtxGetCurrent": ctypes.CFUNCTYPE(_I32, _PTR)(self._get_context),
            "cuCtxPushCurrent_v2": ctypes.CFUNCTYPE(_I32, _PTR)(self._push),
            "cuCtxPopCurrent_v2": ctypes.CFUNCTYPE(_I32, _PTR)(self._pop),
            "cuStreamIsCapturing": ctypes.CFUNCTYPE(_I32, _PTR, _PTR)(self._stream_is_capturing),
            "cuStreamSynchronize": ctypes.CFUNCTYPE(_I32, _PTR)(lambda stream: self.calls.append(("synchronize", stream or 0)) or 0),
        }

    # -- what Python asks
    def version(self) -> tuple[int, int]:
        return 13, 0

    def devices(self) -> tuple[GpuDevice, ...]:
        if self.broken is not None:
            raise self.broken
        return self.found

    def entry_points(self) -> dict[str, int]:
        return {name: ctypes.cast(function, _PTR).value or 0 for name, function in self._functions.items()}

    def primary_context(self, ordinal: int) -> int:
        return 0x100 + ordinal

    def current_context(self) -> int:
        return self.context

    def push_context(self, context: int) -> None:
        self._push(context)

    def pop_context(self) -> None:
        self._pop(0)

    def load_module(self, image: bytes) -> int:
        self.calls.append(("load_module", image, self.context))
        return 0x1000 * (len([c for c in self.calls if c[0] == "load_module"]) + 1)

    def function(self, module: int, name: str) -> int:
        handle = module + 1 + list(self.kernels).index(name)
        self._names[handle] = name
        return handle

    def allow_shared_memory(self, function: int, size_bytes: int) -> None:
        self.calls.append(("allow_shared_memory", self._names[function], size_bytes))

    def allow_cluster(self, function: int) -> None:
        self.calls.append(("allow_cluster", self._names[function]))

    def blocks_per_multiprocessor(self, function: int, threads: int, shared_bytes: int) -> int:
        return 2048 // threads

    def is_capturing(self, stream: int) -> bool:
        return self.capturing

    def synchronize(self, stream: int) -> None:
        self.calls.append(("synchronize", stream))

    def wait_for_stream(self, ordinal: int, stream: int, other: int) -> None:
        self.calls.append(("wait_for_stream", ordinal, stream, other))

    def pointer_device(self, address: int) -> int | None:
        return None if address == 0xBAD else 0

    def allocate(self, ordinal: int, size_bytes: int) -> int:
        block = ctypes.create_string_buffer(size_bytes + 256)
        address = -(-ctypes.addressof(block) // 256) * 256
        self.blocks[address] = block
        self.calls.append(("allocate", ordinal, size_bytes))
        return address

    def free(self, ordinal: int, address: int) -> None:
        del self.blocks[address]

    def write(self, ordinal: int, address: int, source: int, size_bytes: int) -> None:
        ctypes.memmove(address, source, size_bytes)

    def read(self, ordinal: int, address: int, target: int, size_bytes: int) -> None:
        ctypes.memmove(target, address, size_bytes)

    def host_word(self, ordinal: int) -> tuple[int, Any]:
        self.calls.append(("host_word", ordinal))
        word = ctypes.c_uint64(0)
        return ctypes.addressof(word), word

    def error_name(self, number: int) -> str:
        return {1: "CUDA_ERROR_INVALID_VALUE", 700: "CUDA_ERROR_ILLEGAL_ADDRESS"}.get(number, f"error {number}")

    # -- what compiled code asks
    def _get_context(self, cell: int) -> int:
        ctypes.c_uint64.from_address(cell).value = self.context
        return 0

    def _push(self, context: int) -> int:
        self.stack.append(self.context)
        self.context = context
        return 0

    def _pop(self, cell: int) -> int:
        self.context = self.stack.pop()
        return 0

    def _stream_is_capturing(self, stream: int, cell: int) -> int:
        ctypes.c_int32.from_address(cell).value = int(self.capturing)
        return 0

    def _launch(self, function: int, *rest: Any) -> int:
        *numbers, stream, parameters, _ = rest
        return self._run(function, numbers, stream or 0, parameters, (1, 1, 1))

    def _launch_ex(self, configuration: int, function: int, parameters: int, _: int) -> int:
        numbers = list((ctypes.c_uint32 * 7).from_address(configuration))
        stream, attribute = ctypes.c_uint64.from_address(configuration + 32).value, ctypes.c_uint64.from_address(configuration + 40).value
        found = {}
        for start in range(attribute, attribute + 72 * ctypes.c_uint32.from_address(configuration + 48).value, 72):
            found[ctypes.c_uint32.from_address(start).value] = tuple((ctypes.c_uint32 * 3).from_address(start + _CLUSTER_AT))
        assert found and found.keys() <= {_COOPERATIVE, _CLUSTER} and found.get(_COOPERATIVE, (1,))[0] == 1
        return self._run(function, numbers, stream, parameters, found.get(_CLUSTER, (1, 1, 1)), is_cooperative=_COOPERATIVE in found)

    def _memset(self, address: int, value: int, words: int, stream: int) -> int:
        self.calls.append(("memset", address, value, words, stream or 0))
        (ctypes.c_uint32 * words).from_address(address)[:] = [value] * words
        return 0

    def _run(self, function: int, numbers: list[int], stream: int, parameters: int, cluster: Any, *, is_cooperative: bool = False) -> int:
        kernel = self.kernels[self._names[function]]
        pointers = list((ctypes.c_uint64 * kernel.parameter_count).from_address(parameters)) if kernel.parameter_count else []
        words = tuple(ctypes.c_uint64.from_address(p).value for p in pointers)
        grid, block = tuple(numbers[:3]), tuple(numbers[3:6])
        launched = Launched(self._names[function], grid, block, numbers[6], stream, words, self.context, cluster, is_cooperative)  # type: ignore[arg-type]
        self.launches.append(launched)
        if not self.launch_error:
            kernel.body(words)
        return self.launch_error
