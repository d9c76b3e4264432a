"""Which back end a target belongs to."""

from __future__ import annotations

import subprocess
import sys

import tilewright
import tilewright.language as T
from tilewright.backends.cpu import CpuProgram
from tilewright.driver import VERSION, compile_program
from tilewright.target.cpu import host_target


@T.prim_func
def double(A: T.Tensor((33,), "float32"), B: T.Tensor((33,), "float32")):
    with T.Kernel(1):
        for i in T.Parallel(33):
            B[i] = A[i] * 2


def test_a_cpu_gets_machine_code_of_its_own() -> None:
    compiled = compile_program(double.program, host_target())
    assert isinstance(compiled, CpuProgram) and compiled.target is host_target() and compiled.program is double.program


def test_importing_the_package_leaves_the_back_ends_alone() -> None:
    """The import is part of every program's start; code generators, passes and LLVM are a third of it and more."""
    program = "import sys, tilewright; print([m for m in sys.modules if m.split('.')[0] in ('llvmlite', 'torch')"
    program += " or m.startswith(('tilewright.codegen', 'tilewright.passes', 'tilewright.reference', 'tilewright.sim'))])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_version() -> None:
    assert tilewright.__version__ == VERSION
