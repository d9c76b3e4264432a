"""Timing one callable, with everything that a number needs beside it (floor 9)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.errors import Kind, fail
from tilewright.runtime.cuda_driver import find_driver
from tilewright.runtime.cuda_streams import current_device
from tilewright.runtime.cuda_timing import GpuClocks, gpu_clocks, gpu_times_ms, uses_gpu
from tilewright.spans import span_of_caller

_FLUSH_FACTOR = 2  # of the size of the L2 cache


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a call: median and quartiles over `count` calls.

    l2              "cold" or "warm" on a GPU, "" on a CPU.
    clocks          of the GPU before and after, None where nvidia-ml-py cannot read them.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    count: int
    device: str
    l2: str = ""
    is_replayed: bool = False
    clocks: tuple[GpuClocks | None, GpuClocks | None] = (None, None)

    def __str__(self) -> str:
        how = [f"{self.count} calls on {self.device}", *([f"{self.l2} L2"] if self.l2 else []), *(["graph replay"] if self.is_replayed else [])]
        lines = [f"{self.median_ms:.4g} ms ({self.low_ms:.4g} to {self.high_ms:.4g}), {', '.join(how)}"]
        lines += [f"  {when}: {state}" for when, state in zip(("before", "after"), self.clocks, strict=True) if state is not None]
        return "\n".join(lines)


def do_bench(fn: Callable[[], Any], *, l2: str = "cold", is_replayed: bool = False, warmup_ms: float = 25.0, rep_ms: float = 100.0) -> Timing:
    """How long a call of `fn` takes: on the GPU, by its events, where the program uses one through torch; else on the CPU.

    l2            "cold": what lies in the GPU's L2 cache is overwritten before every call; "warm": it stays.
    is_replayed   measures replays of a CUDA graph of one call, which leaves out the host.
    """
    if l2 not in ("cold", "warm"):
        fail(Kind.OPTION_VALUE, f"l2 is {l2!r}", span_of_caller(), because='known are "cold" and "warm"', help="leave it out for cold")
    if not uses_gpu():
        if is_replayed:
            fail(
                Kind.OPTION_VALUE,
                "is_replayed was asked for, but nothing runs on a GPU",
                span_of_caller(),
                because="graphs are CUDA's",
                help="move the tensors to a GPU, or leave it out",
            )
        return _timing(_cpu_times_ms(fn, warmup_ms, rep_ms), "the CPU")
    device = find_driver().devices()[current_device()]
    before = gpu_clocks()
    flush_bytes = _FLUSH_FACTOR * device.l2_bytes if l2 == "cold" else 0
    times = gpu_times_ms(fn, warmup_ms=warmup_ms, rep_ms=rep_ms, flush_bytes=flush_bytes, is_replayed=is_replayed)
    return _timing(times, device.name, l2, is_replayed, (before, gpu_clocks()))


def _timing(times_ms: list[float], device: str, l2: str = "", is_replayed: bool = False, clocks: Any = (None, None)) -> Timing:
    low, median, high = (float(x) for x in np.quantile(times_ms, (0.25, 0.5, 0.75)))
    return Timing(median, low, high, len(times_ms), device, l2, is_replayed, clocks)


def _cpu_times_ms(fn: Callable[[], Any], warmup_ms: float, rep_ms: float) -> list[float]:
    start = time.perf_counter()
    fn()
    once_ms = max((time.perf_counter() - start) * 1e3, 1e-4)
    for _ in range(max(1, int(warmup_ms / once_ms))):
        fn()
    times = []
    for _ in range(max(3, int(rep_ms / once_ms))):
        start = time.perf_counter()
        fn()
        times.append((time.perf_counter() - start) * 1e3)
    return times
