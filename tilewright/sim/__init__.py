"""The simulator of thread-level programs: what the GPU runs, executed and checked in numpy (floor 7)."""

from tilewright.sim.findings import Finding, FindingKind
from tilewright.sim.simulate import SimulationOptions, SimulationReport, simulate
from tilewright.sim.traffic import AccessCount

__all__ = ["AccessCount", "Finding", "FindingKind", "SimulationOptions", "SimulationReport", "simulate"]
