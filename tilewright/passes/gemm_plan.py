"""Stand-in until the partition of products is here."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.errors import CompilerBug
from tilewright.layout import Layout
from tilewright.ops.gemm import Gemm
from tilewright.target.nvidia import NvidiaTarget


@dataclass
class GemmPlan:
    accumulator_layout: Layout
    a_layout: Layout | None


def plan_gemm(op: Gemm, num_threads: int, target: NvidiaTarget) -> GemmPlan:
    raise CompilerBug("products on GPUs are not here yet")
