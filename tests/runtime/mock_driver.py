"""A CUDA driver without a GPU: it records what it is asked, and a launch copies the parameters that the kernel would see."""

from __future__ import annotations

from typing import Any

from tilewright.runtime.cuda_driver import CudaError, GpuDevice

H100 = GpuDevice(0, "Mock H100", (9, 0), 132, 80 << 30, 50 << 20, 227 * 1024)


class MockDriver:
    """Everything that the runtime asks of a driver; `capturing` and `broken` make it refuse."""

    def __init__(self, *devices: GpuDevice, capturing: bool = False, broken: CudaError | None = None) -> None:
        self.found = devices or (H100,)
        self.capturing, self.broken = capturing, broken
        self.calls: list[tuple[Any, ...]] = []

    def version(self) -> tuple[int, int]:
        return 13, 0

    def devices(self) -> tuple[GpuDevice, ...]:
        if self.broken is not None:
            raise self.broken
        return self.found

    def wait_for_stream(self, stream: int, other: int) -> None:
        self.calls.append(("wait_for_stream", stream, other))

    def pointer_device(self, address: int) -> int | None:
        return None if address == 0xBAD else 0

    def current_context(self) -> int:
        return 0x100

    def is_capturing(self, stream: int) -> bool:
        return self.capturing
