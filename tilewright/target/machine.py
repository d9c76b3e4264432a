"""How fast machines are, by their data sheets (floor 1): what estimates of running times are made with. Nothing that is generated depends on it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tilewright.dtypes import DType
from tilewright.target.cpu import CpuTarget, Feature
from tilewright.target.nvidia import NvidiaTarget

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine.

    units                     multiprocessors of a GPU, cores of a CPU.
    clock_hz                  under load.
    bandwidth_bytes_per_s     of the memory.
    cache_bytes               the last level.
    vector_fma_per_cycle      float32 multiply-adds of a unit.
    matrix_fma_per_cycle      float16 multiply-adds of a unit's tensor cores; 0 where it has none.
    double_fma_per_cycle      float64 multiply-adds of a unit, by whatever does most.
    """

    name: str
    units: int
    clock_hz: float
    bandwidth_bytes_per_s: float
    cache_bytes: int
    vector_fma_per_cycle: int
    matrix_fma_per_cycle: int
    double_fma_per_cycle: int

    def peak_flops(self, dtype: DType, is_product: bool = False) -> float:
        """Operations a second on operands of a dtype, a multiply-add being two; `is_product` for matrix products."""
        if dtype == "float64":
            rate = float(self.double_fma_per_cycle)
        elif is_product and self.matrix_fma_per_cycle and dtype != "float32":
            width = 32 if dtype == "tfloat32" else max(dtype.bits, 8)
            rate = self.matrix_fma_per_cycle * 16 / width
        else:
            rate = float(self.vector_fma_per_cycle)
        return 2.0 * self.units * self.clock_hz * rate


# Source: NVIDIA's architecture papers of GA100, GA102, AD102 and GH100; rates per cycle from the CUDA C++ Programming Guide, "Arithmetic Instructions".
_BOARDS: dict[tuple[int, int], Machine] = {
    (8, 0): Machine("A100 80GB", 108, 1.41e9, 2.039e12, 40 * _MEBIBYTE, 64, 1024, 64),
    (8, 6): Machine("A40", 84, 1.74e9, 0.696e12, 6 * _MEBIBYTE, 128, 512, 2),
    (8, 9): Machine("L40S", 142, 2.52e9, 0.864e12, 96 * _MEBIBYTE, 128, 512, 2),
    (9, 0): Machine("H100 SXM", 132, 1.83e9, 3.35e12, 50 * _MEBIBYTE, 128, 2048, 128),
}
# A CPU does not say how fast it is: what current servers have per core.
_CPU_CLOCK_HZ = 3.0e9
_CPU_BANDWIDTH_BYTES_PER_S = 8e9
_CPU_CACHE_BYTES = 2 * _MEBIBYTE
_CPU_FMA_PIPES = 2


def machine_of(target: CpuTarget | NvidiaTarget) -> Machine:
    """The board that an architecture is best known by; of a CPU, all cores that this process may use at the speed of an average one."""
    if isinstance(target, NvidiaTarget):
        return _BOARDS[target.capability]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lanes, pipes = target.lanes(4), _CPU_FMA_PIPES if target.has(Feature.FMA) else 1
    return Machine(
        target.name, cores, _CPU_CLOCK_HZ, _CPU_BANDWIDTH_BYTES_PER_S * cores, _CPU_CACHE_BYTES * cores, lanes * pipes, 0, max(lanes // 2, 1) * pipes
    )
