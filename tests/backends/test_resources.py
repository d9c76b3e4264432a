"""What a kernel takes, as the assembler says it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tilewright.backends.resources import resources_of
from tilewright.runtime.nvrtc import Cubin, KernelResources
from tilewright.target.nvidia import SM_90


def test_one_entry_per_launch() -> None:
    launches: Any = [SimpleNamespace(entry_name=name, block=(64, 2, 1), dynamic_shared_bytes=shared) for name, shared in (("a", 0), ("b", 100_000))]
    used = {"a": KernelResources(40, 8, 16, 32, 1024), "b": KernelResources(255, 0, 0, 0, 0)}
    first, second = resources_of(SimpleNamespace(kernels=launches), Cubin(b"", "", used, ""), SM_90)  # type: ignore[arg-type]
    assert (first.kernel, first.threads, first.registers, first.shared_bytes, first.stack_bytes) == ("a", 128, 40, 1024, 32)
    assert "spills 8 + 16 bytes" in str(first) and "spills" not in str(second)
    assert second.shared_bytes == 100_000 and second.occupancy.blocks_per_sm == 2 and "2 blocks per multiprocessor" in str(second)
