"""A CPU program as a file that other programs can load (floor 8): an object file, or a shared library."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tilewright.codegen.llvm.program import GeneratedModule
from tilewright.errors import Kind, fail
from tilewright.runtime.llvm_jit import compile_object
from tilewright.spans import span_of_caller
from tilewright.target.cpu import CpuTarget

SUFFIXES = (".o", ".so", ".dylib")
_LINKERS = ("cc", "gcc", "clang")
_DECLARATION = "declare void @tw_parallel_for("
# The worker pool lives in the process that compiles. In a file of its own, a program runs its blocks one after the other, on the calling thread.
_SERIAL_LAUNCH = """\
define internal void @tw_parallel_for(ptr %task, ptr %context, i64 %count, i64 %chunk, i64 %scratch_bytes) nounwind {
entry:
  %is_empty = icmp sle i64 %count, 0
  br i1 %is_empty, label %done, label %some
some:
  %needs_scratch = icmp sgt i64 %scratch_bytes, 0
  br i1 %needs_scratch, label %allocate, label %plain
plain:
  call void %task(i64 0, i64 %count, ptr %context, ptr null)
  br label %done
allocate:
  %scratch = call ptr @aligned_alloc(i64 64, i64 %scratch_bytes)
  %is_there = icmp ne ptr %scratch, null
  br i1 %is_there, label %run, label %out_of_memory
run:
  call void %task(i64 0, i64 %count, ptr %context, ptr %scratch)
  call void @free(ptr %scratch)
  br label %done
out_of_memory:
  call void @llvm.trap()
  unreachable
done:
  ret void
}
declare ptr @aligned_alloc(i64, i64)
declare void @free(ptr)
declare void @llvm.trap()
"""


def write_library(generated: GeneratedModule, target: CpuTarget, path: Path) -> None:
    """Writes one C function `int32_t NAME(const uint64_t *slots)`, named `generated.entry_name`, with everything that it calls but `aligned_alloc` and `free`.

    It runs the blocks one after the other. Slots of 8 bytes hold, in order: addresses of tensors and values of scalars (`tilewright.codegen.slots`),
    addresses of workspaces, symbolic sizes, and the address of an int32 that is 0. The result is 0, or n where assert n failed.

    Raises TileError (target-feature) for a program that prints, and for a shared library where the system has no linker.
    """
    if generated.prints:
        fail(
            Kind.TARGET_FEATURE,
            f"{generated.entry_name} prints, and cannot be written to a library",
            span_of_caller(),
            because="T.print is done by Python, which a library has not",
            help="remove T.print",
        )
    lines = (line for line in generated.text.splitlines() if not line.startswith(_DECLARATION))
    object_bytes = compile_object("\n".join([*lines, _SERIAL_LAUNCH]), target)
    if path.suffix == ".o":
        path.write_bytes(object_bytes)
    else:
        _link(object_bytes, path)


def _link(object_bytes: bytes, target: Path) -> None:
    linker = next(filter(None, map(shutil.which, _LINKERS)), None)
    if linker is None:
        fail(
            Kind.TARGET_FEATURE,
            f"{target.name} cannot be linked: none of {', '.join(_LINKERS)} was found",
            span_of_caller(),
            because="a shared library is made by the linker of the system",
            help="write an object file, which needs none: kernel.export_library('kernel.o')",
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.o")
        source.write_bytes(object_bytes)
        done = subprocess.run([linker, "-shared", "-o", str(target), str(source)], capture_output=True, text=True)
    if done.returncode:
        fail(
            Kind.TARGET_FEATURE,
            f"{linker} did not link {target.name}: {done.stderr.strip()}",
            span_of_caller(),
            because="a shared library is made by the linker of the system",
            help="write an object file, which needs none: kernel.export_library('kernel.o')",
        )
