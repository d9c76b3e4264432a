"""Errors of the compiler of CUDA C++ are told at the line of the user's that they come from."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright.language as T
from tests.execution import refused
from tilewright.backends.compiled import CompileOptions
from tilewright.backends.cuda import generate_cuda
from tilewright.backends.refused_source import explain_refusal
from tilewright.codegen.cuda.module import CudaModule
from tilewright.errors import Kind
from tilewright.target.nvidia import SM_80


def module_of(*statements: Any) -> CudaModule:
    @T.prim_func
    def kernel(A: T.Tensor((64,), "float32")):
        with T.Kernel(1, threads=64):
            tx = T.get_thread_binding()
            tuple(statement(A, tx) for statement in statements)

    return generate_cuda(kernel.program, SM_80, CompileOptions()).module


def imported(text: str) -> Any:
    return lambda A, tx: T.import_source(text)


def called(A: Any, tx: Any) -> None:
    T.call_extern("handle", "f", T.address_of(A[tx]))


def assembled(A: Any, tx: Any) -> None:
    T.ptx("bar.arrive 1, 64;")


def line_with(module: CudaModule, part: str) -> int:
    return next(n for n, line in enumerate(module.text.splitlines(), 1) if part in line)


def test_an_error_in_an_imported_source() -> None:
    module = module_of(imported("int a;\n"), imported("\nint b;\n  int c = d;\n"))
    with refused(Kind.EXTERN_SOURCE, "line 2 of the imported source, `int c = d;`", 'because: identifier "d" is undefined', "test_refused_source.py"):
        explain_refusal(module, 'import_source_1(2): error: identifier "d" is undefined\n    int c = d;\n            ^\n\n1 error detected\n')


def test_an_error_at_a_call() -> None:
    module = module_of(imported("__device__ void g();"), called, assembled)
    with refused(Kind.EXTERN_SOURCE, "the call of `f`", "no instance", "imported here"):
        explain_refusal(module, f"kernel.cu({line_with(module, ' f(')}): error: no instance of function template\n")
    with refused(Kind.EXTERN_SOURCE, "this inline PTX"):
        explain_refusal(module, f"kernel.cu({line_with(module, 'asm volatile')}): error: asm operand type size(1)\n")


def test_an_error_elsewhere_in_a_kernel_behind_imported_text() -> None:
    module = module_of(imported("#define A B"), lambda A, tx: A.__setitem__(tx, 1.0))
    with refused(Kind.EXTERN_SOURCE, "does not compile behind the imported source", "macros"):
        explain_refusal(module, f"kernel.cu({line_with(module, '__global__')}): error #20: identifier is undefined\n")


def test_an_error_of_the_assembler() -> None:
    log = "ptxas application ptx input, line 25; error   : Unexpected instruction types specified for 'add'\nptxas fatal   : Ptx assembly aborted\n"
    with refused(Kind.EXTERN_SOURCE, "the assembler refuses inline PTX", "Unexpected instruction types"):
        explain_refusal(module_of(assembled), log)


@pytest.mark.parametrize(
    "log", ["kernel.cu(3): error: expected a ;\n", "ptxas fatal   : Memory allocation failure\n", "", "import_source_0(7): warning: unused\n"]
)
def test_what_is_no_fault_of_the_users_is_left(log: str) -> None:
    explain_refusal(module_of(called), log)
