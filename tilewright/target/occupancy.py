"""How many blocks of a kernel a multiprocessor of an NVIDIA GPU holds at once (floor 1).

Source: the rules of the CUDA Occupancy Calculator for compute capability 8.0 to 9.0: registers are given to whole warps in units of 256, each of the four
parts of a multiprocessor has a quarter of them, shared memory comes in units of 128 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.target.nvidia import NvidiaTarget

_REGISTER_UNIT = 256
_SHARED_UNIT_BYTES = 128
_PARTS = 4


@dataclass(frozen=True, slots=True)
class Occupancy:
    """blocks_per_sm   that run at once on a multiprocessor; 0 where one block alone does not fit.
    warps_per_sm       likewise; of `max_warps_per_sm`.
    limited_by         what there is too little of: "threads", "registers", "shared memory" or "blocks".
    """

    blocks_per_sm: int
    warps_per_sm: int
    max_warps_per_sm: int
    limited_by: str

    @property
    def share(self) -> float:
        """Of the warps that a multiprocessor can hold."""
        return self.warps_per_sm / self.max_warps_per_sm


def occupancy(target: NvidiaTarget, threads: int, registers_per_thread: int, shared_bytes: int) -> Occupancy:
    """The occupancy of a kernel; `shared_bytes` of a block, static and dynamic together."""
    warps = -(-threads // target.warp_threads)
    registers_per_warp = -(-max(registers_per_thread, 1) * target.warp_threads // _REGISTER_UNIT) * _REGISTER_UNIT
    warps_by_registers = target.registers_per_sm // _PARTS // registers_per_warp * _PARTS
    shared_per_block = -(-(shared_bytes + target.reserved_shared_bytes) // _SHARED_UNIT_BYTES) * _SHARED_UNIT_BYTES
    max_warps = target.max_threads_per_sm // target.warp_threads
    limits = {
        "threads": max_warps // warps if threads <= target.max_threads_per_block else 0,
        "registers": warps_by_registers // warps if registers_per_thread <= target.max_registers_per_thread else 0,
        "shared memory": target.shared_bytes_per_sm // shared_per_block if shared_bytes <= target.shared_bytes_per_block else 0,
        "blocks": target.max_blocks_per_sm,
    }
    limited_by = min(limits, key=lambda name: limits[name])
    blocks = limits[limited_by]
    return Occupancy(blocks, blocks * warps, max_warps, limited_by)
