"""Programs compiled by NVRTC for every architecture, where it is installed."""

from __future__ import annotations

import pytest

from tilewright.codegen.cuda.options import CudaOptions
from tilewright.codegen.cuda.program import emit_program
from tilewright.ir.program import Program
from tilewright.runtime.nvrtc import Cubin, compile_cubin, is_nvrtc_installed
from tilewright.target.nvidia import NVIDIA_TARGETS, SM_80, SM_89, SM_90

needs_nvrtc = pytest.mark.skipif(not is_nvrtc_installed(), reason="NVRTC is not installed")


def compiles_everywhere(source: Program, options: CudaOptions | None = None) -> dict[str, Cubin]:
    """The machine code for each architecture."""
    return {name: compile_cubin(emit_program(source, target, options).text, target) for name, target in NVIDIA_TARGETS.items()}


def compiles(source: Program, options: CudaOptions | None = None) -> None:
    """The same for one architecture of each set of features that the printer asks for: enough for large programs."""
    for target in (SM_80, SM_89, SM_90):
        compile_cubin(emit_program(source, target, options).text, target)
