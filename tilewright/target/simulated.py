"""A GPU that is simulated on the CPU, as a compile target (floor 1)."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.target.nvidia import NvidiaTarget


@dataclass(frozen=True, slots=True)
class SimulatedTarget:
    """Programs are lowered for `nvidia` and then executed by the simulator: no GPU is needed, and what it does wrong is found."""

    nvidia: NvidiaTarget

    @property
    def name(self) -> str:
        return f"simulate {self.nvidia.name}"
