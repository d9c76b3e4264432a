"""Machines that hints are made for (floor 9): `CUDA("sm_90a")`, `CPU()`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.targets import resolve_target
from tilewright.carver.arch import driver
from tilewright.errors import Kind, fail
from tilewright.spans import span_of_caller
from tilewright.target.cpu import CpuTarget
from tilewright.target.machine import Machine, machine_of
from tilewright.target.nvidia import NvidiaTarget
from tilewright.target.simulated import SimulatedTarget


@dataclass(frozen=True)
class Architecture:
    """What is compiled for, and how fast it is. `sm_version` is 90 for compute capability 9.0, 0 for CPUs."""

    target: CpuTarget | NvidiaTarget
    machine: Machine

    @property
    def sm_version(self) -> int:
        return 10 * self.target.capability[0] + self.target.capability[1] if isinstance(self.target, NvidiaTarget) else 0


def CUDA(target: Any = "cuda") -> Architecture:
    """A GPU: "cuda" for the one of this machine, or an architecture such as "sm_80", which needs none.

    Raises TileError: gpu-missing for "cuda" without a GPU, target-name and target-feature as `tilewright.compile` does.
    """
    found = resolve_target(target)
    found = found.nvidia if isinstance(found, SimulatedTarget) else found
    if not isinstance(found, NvidiaTarget):
        fail(
            Kind.TARGET_NAME,
            f"carver.arch.CUDA was given the target {target!r}",
            span_of_caller(),
            because="it describes a GPU",
            help='write carver.arch.CUDA("cuda"), carver.arch.CUDA("sm_90a"), or carver.arch.CPU()',
        )
    return Architecture(found, machine_of(found))


def CPU(target: Any = "cpu") -> Architecture:
    """The CPU of this machine."""
    found = resolve_target(target)
    if not isinstance(found, CpuTarget):
        fail(Kind.TARGET_NAME, f"carver.arch.CPU was given the target {target!r}", span_of_caller(), because="it describes a CPU", help="leave it out")
    return Architecture(found, machine_of(found))


def CDNA(target: Any = "hip") -> Architecture:
    """GPUs of another maker: refused."""
    fail(
        Kind.TARGET_FEATURE,
        "carver.arch.CDNA describes GPUs that this version does not compile for",
        span_of_caller(),
        because="targets are CPUs and NVIDIA GPUs",
        help="use carver.arch.CUDA or carver.arch.CPU",
    )


__all__ = ["CDNA", "CPU", "CUDA", "Architecture", "driver"]
