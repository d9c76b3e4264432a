"""Machine code on GPUs (floor 7): a module is loaded once per device and stays for the rest of the process.

Nothing is ever unloaded: a kernel may be running, or be part of a graph, when the last Python object that knows it goes away.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tilewright.errors import Kind, fail
from tilewright.runtime.argument_text import plural
from tilewright.runtime.cuda_driver import CudaDriver, CudaError, GpuDevice, fail_driver
from tilewright.runtime.cuda_streams import refuse_while_capturing
from tilewright.spans import span_of_caller

# Launches with more dynamic shared memory than this need a permission of their own, and so do clusters of more blocks.
DEFAULT_SHARED_BYTES = 48 * 1024
PORTABLE_CLUSTER_BLOCKS = 8


@dataclass(frozen=True, slots=True)
class KernelNeeds:
    """What the driver must be told of a kernel before it is launched."""

    entry_name: str
    dynamic_shared_bytes: int
    cluster_blocks: int = 1


@dataclass(frozen=True, slots=True)
class LoadedKernels:
    """The kernels of a program on one device: handles for its launcher."""

    ordinal: int
    context: int
    functions: tuple[int, ...]


class ModuleRegistry:
    """The modules of one driver."""

    def __init__(self, driver: CudaDriver) -> None:
        self.driver = driver
        self._modules: dict[tuple[bytes, int], int] = {}
        self._lock = threading.Lock()

    def load(self, name: str, ordinal: int, image_for: Callable[[GpuDevice], bytes], kernels: Sequence[KernelNeeds]) -> LoadedKernels:
        """The kernels of the program `name` on a device; `image_for` gives the cubin that suits it.

        Raises TileError: graph-capture, gpu-error.
        """
        refuse_while_capturing(f"{name} was loaded")
        device = self.driver.devices()[ordinal]
        for kernel in kernels:
            _check_shared_memory(name, kernel, device)
        image = image_for(device)
        key = hashlib.sha256(image).digest(), ordinal
        try:
            context = self.driver.primary_context(ordinal)
            self.driver.push_context(context)
            try:
                with self._lock:
                    if key not in self._modules:
                        self._modules[key] = self.driver.load_module(image)
                functions = tuple(self._prepared(self._modules[key], kernel) for kernel in kernels)
            finally:
                self.driver.pop_context()
        except CudaError as error:
            fail_driver(error, f"loading {name} on {device.name}")
        return LoadedKernels(ordinal, context, functions)

    def _prepared(self, module: int, kernel: KernelNeeds) -> int:
        function = self.driver.function(module, kernel.entry_name)
        if kernel.dynamic_shared_bytes > DEFAULT_SHARED_BYTES:
            self.driver.allow_shared_memory(function, kernel.dynamic_shared_bytes)
        if kernel.cluster_blocks > PORTABLE_CLUSTER_BLOCKS:
            self.driver.allow_cluster(function)
        return function


def _check_shared_memory(name: str, kernel: KernelNeeds, device: GpuDevice) -> None:
    if kernel.dynamic_shared_bytes <= device.shared_bytes_per_block:
        return
    fail(
        Kind.GPU_ERROR,
        f"a block of {name} takes {plural(kernel.dynamic_shared_bytes, 'byte')} of shared memory, but {device.name} has {device.shared_bytes_per_block}",
        span_of_caller(),
        because="shared memory differs between architectures",
        help="compile the kernel for this device, which checks the size, with smaller tiles or fewer stages",
    )


_registries: dict[int, ModuleRegistry] = {}


def registry_of(driver: CudaDriver) -> ModuleRegistry:
    """The registry that belongs to a driver, which it keeps alive: one, in a program that replaces none."""
    return _registries.setdefault(id(driver), ModuleRegistry(driver))
