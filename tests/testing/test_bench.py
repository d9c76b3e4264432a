"""The report of a timing. Nothing here depends on how long anything takes."""

from __future__ import annotations

import pytest

from tests.execution import refused
from tests.runtime.mock_driver import MockDriver
from tilewright.errors import Kind
from tilewright.runtime.cuda_driver import use_driver
from tilewright.runtime.cuda_timing import GpuClocks
from tilewright.testing import bench
from tilewright.testing.bench import do_bench


def test_a_call_on_the_cpu() -> None:
    calls: list[int] = []
    timing = do_bench(lambda: calls.append(1), warmup_ms=0.01, rep_ms=0.01)
    assert timing.device == "the CPU" and timing.count >= 3 and 0 < timing.low_ms <= timing.median_ms <= timing.high_ms and len(calls) >= 1 + 1 + 3
    assert str(timing).endswith(f"{timing.count} calls on the CPU")


def test_a_call_on_a_gpu_says_how_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(bench, "uses_gpu", lambda: True)
    monkeypatch.setattr(bench, "gpu_times_ms", lambda fn, **options: asked.append(options) or [1.0, 2.0, 3.0])
    monkeypatch.setattr(bench, "gpu_clocks", lambda: GpuClocks(1980, 2619, 300.0, 40))
    with use_driver(MockDriver()):
        cold, warm = do_bench(lambda: None), do_bench(lambda: None, l2="warm", is_replayed=True)
    assert [o["flush_bytes"] for o in asked] == [100 << 20, 0] and [o["is_replayed"] for o in asked] == [False, True]
    assert str(cold).splitlines()[0] == "2 ms (1.5 to 2.5), 3 calls on Mock H100, cold L2" and "before: SM 1980 MHz" in str(cold)
    assert "warm L2, graph replay" in str(warm)


def test_options_are_checked() -> None:
    with refused(Kind.OPTION_VALUE, "'hot'"):
        do_bench(lambda: None, l2="hot")
    with refused(Kind.OPTION_VALUE, "nothing runs on a GPU"):
        do_bench(lambda: None, is_replayed=True)
