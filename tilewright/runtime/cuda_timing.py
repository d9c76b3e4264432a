"""How long calls take on a GPU, by its own events, and at which clocks (floor 7). Events are torch's: the program must have imported it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

_LEAST_CALLS = 3


@dataclass(frozen=True, slots=True)
class GpuClocks:
    """The state of a GPU at one moment."""

    sm_mhz: int
    memory_mhz: int
    power_watts: float
    temperature_celsius: int

    def __str__(self) -> str:
        return f"SM {self.sm_mhz} MHz, memory {self.memory_mhz} MHz, {self.power_watts:.0f} W, {self.temperature_celsius} °C"


def uses_gpu() -> bool:
    """Whether the program works with a GPU through torch."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def gpu_clocks(ordinal: int | None = None) -> GpuClocks | None:
    """Read through nvidia-ml-py; None where it is not installed or cannot read this GPU."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            handle = _handle(pynvml, ordinal)
            return GpuClocks(
                pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
                pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
                pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
                pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            )
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # the package is missing, or the library, or a right to read
        return None


def _handle(pynvml: Any, ordinal: int | None) -> Any:
    """NVML counts all GPUs of the machine, CUDA only those it may see: where torch is in use, the UUID says which one is meant."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        uuid = getattr(torch.cuda.get_device_properties(torch.cuda.current_device() if ordinal is None else ordinal), "uuid", None)
        if uuid is not None:
            return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    return pynvml.nvmlDeviceGetHandleByIndex(ordinal or 0)


def gpu_times_ms(
    fn: Callable[[], Any],
    *,
    warmup_ms: float,
    rep_ms: float,
    warmup_count: int = 0,
    repeat_count: int = 0,
    flush_bytes: int = 0,
    is_replayed: bool = False,
    ordinal: int | None = None,
) -> list[float]:
    """Milliseconds of each measured call of `fn` on the current stream of a device.

    warmup_ms, rep_ms   to spend before and while measuring; `warmup_count` and `repeat_count`, where not 0, give counts instead.
    flush_bytes         that are written before every call, so that the call finds nothing in the L2 cache; 0 leaves the cache as it is.
    is_replayed         measures replays of a CUDA graph of one call: without what the host needs for it.
    ordinal             of the device that `fn` uses, which is current meanwhile; None: the current one.
    """
    torch = sys.modules["torch"]
    with nullcontext() if ordinal is None else torch.cuda.device(ordinal):
        fn()
        if is_replayed:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                fn()
            call: Callable[[], Any] = graph.replay
        else:
            call = fn
        memory = torch.empty(flush_bytes, dtype=torch.int8, device="cuda") if flush_bytes else None
        once_ms = max(sum(_measured(torch, call, memory, _LEAST_CALLS)) / _LEAST_CALLS, 1e-4)
        for _ in range(warmup_count or max(1, int(warmup_ms / once_ms))):
            call()
        return _measured(torch, call, memory, repeat_count or max(_LEAST_CALLS, int(rep_ms / once_ms)))


def _measured(torch: Any, call: Callable[[], Any], memory: Any, count: int) -> list[float]:
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(count)]
    torch.cuda.synchronize()
    for start, stop in events:
        if memory is not None:
            memory.zero_()
        start.record()
        call()
        stop.record()
    torch.cuda.synchronize()
    return [float(start.elapsed_time(stop)) for start, stop in events]
