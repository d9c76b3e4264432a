"""Timing by events, against a torch that counts."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tilewright.runtime.cuda_timing import GpuClocks, gpu_clocks, gpu_times_ms, uses_gpu


class Clock:
    """A GPU on which every call takes 2 ms and a flush 1 ms; events are recorded on `expected`."""

    expected = 0

    def __init__(self) -> None:
        self.now, self.log, self.device = 0.0, list[str](), 0

    def call(self) -> None:
        self.now += 2.0
        self.log.append("call")

    def torch(self) -> Any:
        clock = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at, self.device = clock.now, clock.device

            def elapsed_time(self, other: Any) -> float:
                assert self.device == other.device == clock.expected
                return float(other.at - self.at)

        class Flushed:
            def zero_(self) -> None:
                clock.now += 1.0
                clock.log.append("flush")

        class Device:
            def __init__(self, ordinal: int) -> None:
                self.ordinal = ordinal

            def __enter__(self) -> None:
                self.before, clock.device = clock.device, self.ordinal

            def __exit__(self, *_: object) -> None:
                clock.device = self.before

        class Graph:
            def replay(self) -> None:
                clock.now += 0.5
                clock.log.append("replay")

            def __enter__(self) -> None: ...

            def __exit__(self, *_: object) -> None: ...

        module: Any = ModuleType("torch")
        module.int8, module.empty = "int8", lambda size, dtype, device: clock.log.append(f"{size} {device}") or Flushed()
        module.cuda = SimpleNamespace(
            Event=Event,
            synchronize=lambda: None,
            CUDAGraph=Graph,
            graph=lambda graph: graph,
            is_initialized=lambda: True,
            current_device=lambda: 0,
            device=Device,
        )
        module.cuda.get_device_properties = lambda ordinal: SimpleNamespace(uuid="abc")
        return module


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setitem(sys.modules, "torch", made.torch())
    return made


def test_a_cold_call_is_measured_without_the_flush(clock: Clock) -> None:
    assert uses_gpu()
    assert gpu_times_ms(clock.call, warmup_ms=10, rep_ms=20, flush_bytes=64) == [2.0] * 10
    assert clock.log[1] == "64 cuda" and clock.log.count("flush") == 3 + 10 and clock.log.count("call") == 1 + 3 + 5 + 10


def test_a_warm_call_and_counts(clock: Clock) -> None:
    assert gpu_times_ms(clock.call, warmup_ms=10, rep_ms=20, warmup_count=1, repeat_count=4) == [2.0] * 4
    assert clock.log == ["call"] * (1 + 3 + 1 + 4)


def test_events_are_those_of_the_device_that_is_used(clock: Clock) -> None:
    clock.expected = 1
    assert gpu_times_ms(clock.call, warmup_ms=0, rep_ms=0, repeat_count=2, ordinal=1) == [2.0] * 2
    assert clock.device == 0


def test_replays_of_a_graph(clock: Clock) -> None:
    assert gpu_times_ms(clock.call, warmup_ms=1, rep_ms=2, is_replayed=True) == [0.5] * 4
    assert clock.log == ["call"] * 2 + ["replay"] * (3 + 2 + 4)


def test_clocks_come_from_nvml_by_the_uuid_of_the_device(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml: Any = ModuleType("pynvml")
    nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM, nvml.NVML_TEMPERATURE_GPU = "sm", "mem", "t"
    nvml.nvmlInit = nvml.nvmlShutdown = lambda: None
    nvml.nvmlDeviceGetHandleByUUID = lambda uuid: uuid
    nvml.nvmlDeviceGetClockInfo = lambda handle, kind: {"sm": 1980, "mem": 2619}[kind]
    nvml.nvmlDeviceGetPowerUsage = lambda handle: 345_600
    nvml.nvmlDeviceGetTemperature = lambda handle, kind: 41 if handle == "GPU-abc" else 0
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert gpu_clocks() == GpuClocks(1980, 2619, 345.6, 41) and str(gpu_clocks()) == "SM 1980 MHz, memory 2619 MHz, 346 W, 41 °C"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_clocks() is None
