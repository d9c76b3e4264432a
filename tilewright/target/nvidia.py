"""NVIDIA GPUs as compile targets: what an architecture can do, and its limits (floor 1).

Code elsewhere asks `target.has(Feature.CP_ASYNC)`; this is the only place that knows architecture names.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Feature(Enum):
    """Something an architecture can do beyond sm_70."""

    CP_ASYNC = "cp.async"  # 4, 8 or 16 bytes from global to shared memory without registers
    MMA = "mma.sync"  # fp16, bf16, tf32, fp64, int8, int4 tensor cores with warp-wide operands
    MMA_FP8 = "mma.sync fp8"  # e4m3 and e5m2 operands
    MMA_FP64_WIDE = "mma.sync m16 fp64"  # shapes with 16 rows; the one with 8 rows is everywhere
    FP8_CONVERT = "fp8 conversions"  # cvt between fp8 pairs and half pairs
    LDMATRIX = "ldmatrix"
    STMATRIX = "stmatrix"
    REDUX = "redux.sync"  # integer reductions over a warp in one instruction
    ELECT = "elect.sync"  # one lane of a warp, chosen by the hardware
    ATOMIC_BF16 = "bf16 atomics"
    VECTOR_ATOMICS = "vector atomics"  # red.global.add.v2/v4.f32
    CLUSTER = "clusters"
    TMA = "tensor memory access"
    WGMMA = "wgmma"
    SET_MAX_REGISTERS = "setmaxnreg"
    DEPENDENT_LAUNCH = "programmatic dependent launch"


@dataclass(frozen=True, slots=True)
class NvidiaTarget:
    """One architecture.

    name                         "sm_90a".
    features                     what may be used.
    shared_bytes_per_block       the most that one block may ask for (opt-in limit).
    shared_bytes_per_sm          what the blocks of a multiprocessor share; each block takes `reserved_shared_bytes` more than it asks for.
    registers_per_sm, max_registers_per_thread, max_threads_per_block, max_threads_per_sm, max_blocks_per_sm   limits of occupancy.
    Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
    """

    name: str
    features: frozenset[Feature]
    shared_bytes_per_block: int
    shared_bytes_per_sm: int
    max_threads_per_sm: int
    max_blocks_per_sm: int
    reserved_shared_bytes: int = 1024
    registers_per_sm: int = 65536
    max_registers_per_thread: int = 255
    max_threads_per_block: int = 1024
    warp_threads: int = 32

    def has(self, feature: Feature) -> bool:
        return feature in self.features

    @property
    def capability(self) -> tuple[int, int]:
        """(9, 0) for sm_90a."""
        digits = self.name.removeprefix("sm_").rstrip("af")
        return int(digits[:-1]), int(digits[-1])


_AMPERE = frozenset({Feature.CP_ASYNC, Feature.MMA, Feature.LDMATRIX, Feature.REDUX})
_ADA = _AMPERE | {Feature.MMA_FP8, Feature.FP8_CONVERT}
_HOPPER = _ADA | {
    Feature.MMA_FP64_WIDE,
    Feature.STMATRIX,
    Feature.ELECT,
    Feature.ATOMIC_BF16,
    Feature.VECTOR_ATOMICS,
    Feature.CLUSTER,
    Feature.TMA,
    Feature.DEPENDENT_LAUNCH,
}

SM_80 = NvidiaTarget("sm_80", _AMPERE, 163 * 1024, 164 * 1024, 2048, 32)
SM_86 = NvidiaTarget("sm_86", _AMPERE, 99 * 1024, 100 * 1024, 1536, 16)
SM_89 = NvidiaTarget("sm_89", _ADA, 99 * 1024, 100 * 1024, 1536, 24)
SM_90 = NvidiaTarget("sm_90", _HOPPER, 227 * 1024, 228 * 1024, 2048, 32)
SM_90A = NvidiaTarget("sm_90a", _HOPPER | {Feature.WGMMA, Feature.SET_MAX_REGISTERS}, 227 * 1024, 228 * 1024, 2048, 32)

NVIDIA_TARGETS: dict[str, NvidiaTarget] = {target.name: target for target in (SM_80, SM_86, SM_89, SM_90, SM_90A)}


def target_for_capability(capability: tuple[int, int]) -> NvidiaTarget | None:
    """The most able target whose code runs on a device of that compute capability; None for devices older than all of them.

    The instructions of "sm_90a" exist on that device alone, those of the others on every later one too.
    """
    usable = [t for t in NVIDIA_TARGETS.values() if t.capability == capability or (t.capability < capability and not t.name.endswith("a"))]
    return usable[-1] if usable else None
