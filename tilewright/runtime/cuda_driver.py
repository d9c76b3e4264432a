"""The CUDA driver, through cuda-bindings (floor 7). It is loaded at the first question about a GPU, never at import.

Contexts are the primary ones, which torch, cupy and every library on the CUDA runtime use too. Tests put another implementation of
`CudaDriver` in the place of the real one with `use_driver`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from tilewright.errors import Kind, fail
from tilewright.spans import span_of_caller

# What the entry of a program calls itself: symbol, and the name that the driver is asked for.
# Source: CUDA Driver API, execution control and context management.
LAUNCH_FUNCTIONS = {
    "cuLaunchKernel": "cuLaunchKernel",
    "cuLaunchKernelEx": "cuLaunchKernelEx",
    "cuMemsetD32Async": "cuMemsetD32Async",
    "cuCtxGetCurrent": "cuCtxGetCurrent",
    "cuCtxPushCurrent_v2": "cuCtxPushCurrent",
    "cuCtxPopCurrent_v2": "cuCtxPopCurrent",
    "cuStreamIsCapturing": "cuStreamIsCapturing",
    "cuStreamSynchronize": "cuStreamSynchronize",
}
_ENTRY_POINT_VERSION = 12000  # the signatures that the functions had in CUDA 12.0, which newer drivers keep


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """One GPU as the driver describes it."""

    ordinal: int
    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    l2_bytes: int
    shared_bytes_per_block: int


class CudaError(Exception):
    """A call of the driver failed: its function, and the name and number of the error."""

    def __init__(self, function: str, name: str, number: int) -> None:
        super().__init__(f"{function} gave {name} ({number})")
        self.function, self.name, self.number = function, name, number


class NoCudaError(Exception):
    """There is no driver that can be asked; the text says why, `fix` what to do."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.fix = fix


class CudaDriver(Protocol):
    """What the runtime asks of a driver. Handles and addresses are integers. Everything may raise CudaError."""

    def version(self) -> tuple[int, int]:
        """The newest CUDA version that the driver supports."""
        ...

    def devices(self) -> tuple[GpuDevice, ...]: ...

    def entry_points(self) -> dict[str, int]:
        """Addresses of LAUNCH_FUNCTIONS, by symbol."""
        ...

    def primary_context(self, ordinal: int) -> int:
        """The device's primary context, kept for the rest of the process."""
        ...

    def current_context(self) -> int:
        """0 where the thread has none."""
        ...

    def push_context(self, context: int) -> None: ...

    def pop_context(self) -> None: ...

    def load_module(self, image: bytes) -> int:
        """A cubin in the current context."""
        ...

    def function(self, module: int, name: str) -> int: ...

    def allow_shared_memory(self, function: int, size_bytes: int) -> None:
        """Lets launches ask for that much dynamic shared memory."""
        ...

    def allow_cluster(self, function: int) -> None:
        """Lets launches have clusters of more than 8 blocks."""
        ...

    def blocks_per_multiprocessor(self, function: int, threads: int, shared_bytes: int) -> int:
        """How many blocks of a kernel one multiprocessor runs at the same time."""
        ...

    def is_capturing(self, stream: int) -> bool:
        """Whether work on the stream is recorded into a graph."""
        ...

    def synchronize(self, stream: int) -> None: ...

    def wait_for_stream(self, ordinal: int, stream: int, other: int) -> None:
        """Makes later work on `stream` wait for what is on `other` now; both are of one device."""
        ...

    def pointer_device(self, address: int) -> int | None:
        """The ordinal of the device that holds an address; None where it is no memory of a device."""
        ...

    def allocate(self, ordinal: int, size_bytes: int) -> int:
        """The address of new memory on a device, a multiple of 256."""
        ...

    def free(self, ordinal: int, address: int) -> None:
        """Gives memory back once the device no longer uses it."""
        ...

    def write(self, ordinal: int, address: int, source: int, size_bytes: int) -> None:
        """Copies pageable host memory to a device, ordered before later work of the default stream."""
        ...

    def read(self, ordinal: int, address: int, target: int, size_bytes: int) -> None:
        """Copies memory of a device to the host once the default stream has done its work; raises what that work failed with."""
        ...

    def host_word(self, ordinal: int) -> tuple[int, Any]:
        """Address of a 64-bit word in host memory that all devices can write, 0 at first, and what keeps it alive. `ordinal` is of a device in use."""
        ...

    def error_name(self, number: int) -> str: ...


class BoundDriver:
    """The driver of this machine. Raises NoCudaError where there is none."""

    def __init__(self) -> None:
        if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
            raise NoCudaError("the package cuda-bindings is not installed", "pip install 'tilewright[cuda]'")
        from cuda.bindings import driver

        self._driver: Any = driver
        try:
            self._call("cuInit", 0)
            self._count = int(self._call("cuDeviceGetCount"))
        except CudaError as error:
            raise NoCudaError(f"the NVIDIA driver does not work: {error}", "install a driver that suits the GPU; nvidia-smi shows its state") from None
        except Exception as error:  # the loader of the library has exceptions of its own
            raise NoCudaError(f"no NVIDIA driver was found ({type(error).__name__})", "install the NVIDIA driver, which brings libcuda") from None
        if not self._count:
            raise NoCudaError("the NVIDIA driver sees no GPU", "look at nvidia-smi and CUDA_VISIBLE_DEVICES")
        self._contexts: dict[int, int] = {}
        self._devices: tuple[GpuDevice, ...] | None = None

    def _call(self, function: str, *arguments: Any) -> Any:
        status, *values = getattr(self._driver, function)(*arguments)
        if int(status):
            raise CudaError(function, getattr(status, "name", str(status)), int(status))
        return values[0] if len(values) == 1 else tuple(values)

    def version(self) -> tuple[int, int]:
        number = int(self._call("cuDriverGetVersion"))
        return number // 1000, number % 1000 // 10

    def devices(self) -> tuple[GpuDevice, ...]:
        if self._devices is None:
            self._devices = tuple(map(self._describe, range(self._count)))
        return self._devices

    def _describe(self, ordinal: int) -> GpuDevice:
        device, attributes = self._call("cuDeviceGet", ordinal), self._driver.CUdevice_attribute

        def attribute(name: str) -> int:
            return int(self._call("cuDeviceGetAttribute", getattr(attributes, f"CU_DEVICE_ATTRIBUTE_{name}"), device))

        raw = self._call("cuDeviceGetName", 256, device)
        return GpuDevice(
            ordinal,
            raw.split(b"\0")[0].decode(),
            (attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")),
            attribute("MULTIPROCESSOR_COUNT"),
            int(self._call("cuDeviceTotalMem", device)),
            attribute("L2_CACHE_SIZE"),
            attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
        )

    def entry_points(self) -> dict[str, int]:
        found = {}
        for symbol, name in LAUNCH_FUNCTIONS.items():
            address, status = self._call("cuGetProcAddress", name.encode(), _ENTRY_POINT_VERSION, 0)
            if not address or int(status):
                raise CudaError("cuGetProcAddress", f"no {name}", int(status))
            found[symbol] = int(address)
        return found

    def primary_context(self, ordinal: int) -> int:
        context = self._contexts.get(ordinal)
        if context is None:
            context = self._contexts[ordinal] = int(self._call("cuDevicePrimaryCtxRetain", self._call("cuDeviceGet", ordinal)))
        return context

    def current_context(self) -> int:
        return int(self._call("cuCtxGetCurrent"))

    def push_context(self, context: int) -> None:
        self._call("cuCtxPushCurrent", context)

    def pop_context(self) -> None:
        self._call("cuCtxPopCurrent")

    def load_module(self, image: bytes) -> int:
        return int(self._call("cuModuleLoadData", image))

    def function(self, module: int, name: str) -> int:
        return int(self._call("cuModuleGetFunction", module, name.encode()))

    def allow_shared_memory(self, function: int, size_bytes: int) -> None:
        self._set_attribute(function, "MAX_DYNAMIC_SHARED_SIZE_BYTES", size_bytes)

    def allow_cluster(self, function: int) -> None:
        self._set_attribute(function, "NON_PORTABLE_CLUSTER_SIZE_ALLOWED", 1)

    def blocks_per_multiprocessor(self, function: int, threads: int, shared_bytes: int) -> int:
        return int(self._call("cuOccupancyMaxActiveBlocksPerMultiprocessor", function, threads, shared_bytes))

    def _set_attribute(self, function: int, name: str, value: int) -> None:
        self._call("cuFuncSetAttribute", function, getattr(self._driver.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}"), value)

    def is_capturing(self, stream: int) -> bool:
        return bool(int(self._call("cuStreamIsCapturing", stream)))

    def synchronize(self, stream: int) -> None:
        self._call("cuStreamSynchronize", stream)

    def wait_for_stream(self, ordinal: int, stream: int, other: int) -> None:
        with self._device(ordinal):  # an event is recorded on streams of its own context, and the handles of default streams mean those of the current one
            event = self._call("cuEventCreate", int(self._driver.CUevent_flags.CU_EVENT_DISABLE_TIMING))
            try:
                self._call("cuEventRecord", event, other)
                self._call("cuStreamWaitEvent", stream, event, 0)
            finally:
                self._call("cuEventDestroy", event)  # the driver keeps it until the wait is over

    def pointer_device(self, address: int) -> int | None:
        try:
            return int(self._call("cuPointerGetAttribute", self._driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address))
        except CudaError:
            return None

    def allocate(self, ordinal: int, size_bytes: int) -> int:
        with self._device(ordinal):
            return int(self._call("cuMemAlloc", size_bytes))

    def free(self, ordinal: int, address: int) -> None:
        with self._device(ordinal):
            self._call("cuMemFree", address)  # waits for the work of the context

    def write(self, ordinal: int, address: int, source: int, size_bytes: int) -> None:
        with self._device(ordinal):
            self._call("cuMemcpyHtoD", address, source, size_bytes)

    def read(self, ordinal: int, address: int, target: int, size_bytes: int) -> None:
        with self._device(ordinal):
            self._call("cuMemcpyDtoH", target, address, size_bytes)

    @contextmanager
    def _device(self, ordinal: int) -> Iterator[None]:
        self.push_context(self.primary_context(ordinal))
        try:
            yield
        finally:
            self.pop_context()

    def host_word(self, ordinal: int) -> tuple[int, Any]:
        flags = 0x01 | 0x02  # CU_MEMHOSTALLOC_PORTABLE, CU_MEMHOSTALLOC_DEVICEMAP
        with self._device(ordinal):
            address = int(self._call("cuMemHostAlloc", 8, flags))
        ctypes.c_uint64.from_address(address).value = 0
        return address, None  # kept for the rest of the process: a kernel may write to it whenever it ends

    def error_name(self, number: int) -> str:
        try:
            name = self._call("cuGetErrorName", self._driver.CUresult(number))
            return name.decode() if isinstance(name, bytes) else str(name)
        except Exception:
            return f"error {number}"


_lock = threading.Lock()
_driver: CudaDriver | NoCudaError | None = None


def find_driver() -> CudaDriver:
    """The driver of this machine. Raises NoCudaError."""
    global _driver
    with _lock:
        if _driver is None:
            try:
                _driver = BoundDriver()
            except NoCudaError as error:
                _driver = error
    if isinstance(_driver, NoCudaError):
        raise _driver
    return _driver


def has_driver() -> bool:
    """Whether this machine has a driver with a GPU."""
    try:
        find_driver()
    except NoCudaError:
        return False
    return True


def loaded_driver() -> CudaDriver | None:
    """The driver, if it has been asked anything yet."""
    return None if isinstance(_driver, NoCudaError) else _driver


def require_driver(purpose: str) -> CudaDriver:
    """The driver. Raises TileError (gpu-missing); `purpose` says what needs a GPU."""
    try:
        return find_driver()
    except NoCudaError as error:
        fail(
            Kind.GPU_MISSING,
            f"{purpose} needs an NVIDIA GPU, and {error}",
            span_of_caller(),
            because="code for a GPU is compiled anywhere, but runs only there",
            help=f'{error.fix}; or name the architecture to only compile, target="sm_80", or target="simulate" to run without a GPU',
        )


def fail_driver(error: CudaError, doing: str) -> NoReturn:
    """Raises the TileError (gpu-error) for a failed call of the driver."""
    fail(
        Kind.GPU_ERROR,
        f"the CUDA driver refused: {doing} gave {error.name}",
        span_of_caller(),
        because=_REASONS.get(error.number, f"{error.function} returned {error.number}"),
        help="errors of an earlier kernel can show up here: CUDA_LAUNCH_BLOCKING=1 or compute-sanitizer finds the one that failed",
    )


# Source: CUDA Driver API, enumeration CUresult.
_REASONS = {
    1: "a parameter of the launch is outside what the device takes",
    2: "the device is out of memory",
    200: "the binary is not for this device",
    201: "the thread has no valid context",
    218: "the text of the kernel could not be assembled for this device",
    222: "the driver is older than the compiler: update one of them",
    400: "a stream belongs to another device than the tensors, or is gone",
    700: "a kernel accessed memory that is not there",
    701: "the launch asks for more registers or shared memory than the device has",
    710: "a device-side assertion failed",
    716: "a kernel accessed memory at an address that is not aligned for it",
    719: "a kernel ended with an error",
    900: "the stream is being captured into a graph, where this call is not allowed",
}


@contextmanager
def use_driver(driver: CudaDriver | NoCudaError | None) -> Iterator[None]:
    """For tests: another driver, for a while."""
    global _driver
    before = _driver
    _driver = driver
    try:
        yield
    finally:
        _driver = before
