"""The machine code of a cubin as text, through NVIDIA's own disassembler (floor 7)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tilewright.errors import CompilerBug, Kind, fail
from tilewright.spans import span_of_caller

TOOL = "nvdisasm"


def find_disassembler() -> str | None:
    """The path of nvdisasm: of a CUDA toolkit on the PATH, or of the wheel that cuda-pathfinder finds."""
    found = shutil.which(TOOL)
    if found is not None:
        return found
    try:
        from cuda import pathfinder

        path: str | None = pathfinder.find_nvidia_binary_utility(TOOL)
    except Exception:  # not installed, or too old to look for tools
        return None
    return path


def disassemble(image: bytes) -> str:
    """SASS. Raises TileError (cuda-missing) where there is no disassembler."""
    tool = find_disassembler()
    if tool is None:
        fail(
            Kind.CUDA_MISSING,
            f"SASS is printed by {TOOL}, which was not found",
            span_of_caller(),
            because="NVIDIA documents the machine code only through its tools",
            help="pip install nvidia-cuda-nvdisasm, or put the bin folder of a CUDA toolkit on the PATH",
        )
    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(image)
        done = subprocess.run([tool, "-c", str(file)], capture_output=True, text=True)
    if done.returncode:
        raise CompilerBug(f"{TOOL} refused the cubin: {done.stderr.strip()}")
    return done.stdout
