"""What goes into a bug report: a folder with the program, its intermediate representations and the versions (floor 9)."""

from __future__ import annotations

import platform
import sys
import tempfile
import traceback
from pathlib import Path
from types import FrameType

import llvmlite
import numpy as np

from tilewright.backends.cpu_pipeline import Compilation
from tilewright.codegen.llvm.program import GeneratedModule
from tilewright.driver import VERSION
from tilewright.ir.printer import print_program
from tilewright.ir.program import Program
from tilewright.options import environment
from tilewright.target.cpu import host_target


def write_report(error: BaseException, script: Path | None = None) -> Path:
    """Writes a new folder below TILEWRIGHT_REPORT_DIR, or the temporary folder, and gives its path.

    It holds versions.txt, traceback.txt, the script, and every program that the compiler held when the error was raised (ir_*.txt, code_*.ll).
    """
    parent = environment().report_directory
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="tilewright-report-", dir=parent))
    target = host_target()
    (folder / "versions.txt").write_text(
        f"tilewright {VERSION}\npython {platform.python_version()} on {platform.platform()}\nllvmlite {llvmlite.__version__}\nnumpy {np.__version__}\n"
        f"target {target.name}\nfeatures {target.llvm_features}\ncommand {' '.join(sys.argv)}\n"
    )
    (folder / "traceback.txt").write_text("".join(traceback.format_exception(error)))
    if script is not None:
        (folder / script.name).write_bytes(script.read_bytes())
    for name, text in _held_by_frames(error).items():
        (folder / name).write_text(text)
    return folder


def _held_by_frames(error: BaseException) -> dict[str, str]:
    """File name and text of the programs among the variables of the frames that the error passed, outermost first; each object once."""
    files: dict[str, str] = {}
    seen: list[object] = []
    for frame in _frames(error):
        held = dict(frame.f_locals)
        for value in list(held.values()):
            if isinstance(value, Compilation):
                held |= {"lowered": value.lowered, "generated": value.generated}
        for name, value in held.items():
            if not isinstance(value, (Program, GeneratedModule)) or any(value is other for other in seen):
                continue
            seen.append(value)
            if isinstance(value, Program):
                files[f"ir_{len(seen)}_{name}.txt"] = print_program(value)
            else:
                files[f"code_{len(seen)}_{name}.ll"] = value.text
    return files


def _frames(error: BaseException) -> list[FrameType]:
    frames = [] if error.__cause__ is None else _frames(error.__cause__)
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)] + frames
