"""What the blocks of a GPU kernel take, and how many fit (floor 8)."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.codegen.cuda.module import CudaModule
from tilewright.runtime.nvrtc import Cubin
from tilewright.target.nvidia import NvidiaTarget
from tilewright.target.occupancy import Occupancy, occupancy


@dataclass(frozen=True)
class LaunchResources:
    """One launch.

    registers            32-bit registers of a thread.
    spill_bytes          stores and loads that move registers to and from local memory, in bytes of code's operands per thread.
    stack_bytes          local memory of a thread.
    shared_bytes         of a block, static and dynamic.
    """

    kernel: str
    architecture: str
    threads: int
    registers: int
    spill_store_bytes: int
    spill_load_bytes: int
    stack_bytes: int
    shared_bytes: int
    occupancy: Occupancy

    def __str__(self) -> str:
        spills = f", spills {self.spill_store_bytes} + {self.spill_load_bytes} bytes" if self.spill_store_bytes or self.spill_load_bytes else ""
        held = self.occupancy
        return (
            f"{self.kernel} on {self.architecture}: {self.threads} threads, {self.registers} registers{spills}, {self.shared_bytes} bytes of shared memory; "
            f"{held.blocks_per_sm} blocks per multiprocessor ({held.share:.0%} of its warps), limited by {held.limited_by}"
        )


def resources_of(module: CudaModule, cubin: Cubin, target: NvidiaTarget) -> tuple[LaunchResources, ...]:
    """One entry per launch, in their order."""
    found = []
    for kernel in module.kernels:
        used = cubin.resources[kernel.entry_name]
        threads, shared = kernel.block[0] * kernel.block[1] * kernel.block[2], used.static_shared_bytes + kernel.dynamic_shared_bytes
        found.append(
            LaunchResources(
                kernel.entry_name,
                target.name,
                threads,
                used.registers,
                used.spill_store_bytes,
                used.spill_load_bytes,
                used.stack_bytes,
                shared,
                occupancy(target, threads, used.registers, shared),
            )
        )
    return tuple(found)
