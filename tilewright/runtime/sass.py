"""Machine code of NVIDIA GPUs as text, by NVIDIA's disassembler where it is installed (floor 7)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tilewright.errors import CompilerBug, Kind, fail
from tilewright.spans import span_of_caller

_TOOL = "nvdisasm"


def find_disassembler() -> str | None:
    """The path of nvdisasm: from a Python package, a CUDA toolkit, or PATH."""
    try:
        from cuda.pathfinder import find_nvidia_binary_utility
    except ImportError:
        return shutil.which(_TOOL)
    return find_nvidia_binary_utility(_TOOL) or shutil.which(_TOOL)


def disassemble(image: bytes) -> str:
    """The instructions of a cubin. Raises TileError (cuda-missing) where there is no disassembler."""
    tool = find_disassembler()
    if tool is None:
        fail(
            Kind.CUDA_MISSING,
            "machine code of a GPU is shown by nvdisasm, which is not installed",
            span_of_caller(),
            because="the encoding of instructions is not published; NVIDIA's disassembler is a package of its own",
            help="pip install nvidia-cuda-nvdisasm",
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(image)
        made = subprocess.run([tool, "-c", str(path)], capture_output=True, text=True)
    if made.returncode != 0:
        raise CompilerBug(f"nvdisasm refused a cubin: {made.stderr.strip()}")
    return made.stdout
