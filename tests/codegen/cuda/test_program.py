"""Whole programs: the text, the record of each launch, and NVRTC's opinion of both."""

from __future__ import annotations

from tests.codegen.cuda.nvrtc_checks import compiles_everywhere, needs_nvrtc
from tests.codegen.cuda.thread_programs import BLOCK, SPAN, THREAD, at, program, seq, store, tensor
from tilewright.codegen.cuda.program import emit_program
from tilewright.codegen.slots import SlotKind
from tilewright.dtypes import float32
from tilewright.ir.expr import ceildiv, var
from tilewright.ir.program import Program
from tilewright.ir.stmt import If, Let
from tilewright.target.nvidia import SM_80


def vector_add() -> Program:
    n, i = var("n"), var("i")
    a, b, c = (tensor(name, float32, n) for name in "ABC")
    body = seq(Let(SPAN, i, BLOCK * 128 + THREAD), If(SPAN, i < n, store(c, i, at(a, i) + at(b, i))))
    return program([a, b, c], body, threads=128, grid=(ceildiv(n, 128),), name="add")


def test_a_vector_add_reads_like_one() -> None:
    assert (
        emit_program(vector_add(), SM_80).text
        == """\
// add for sm_80

extern "C" __global__ void __launch_bounds__(128) add_kernel(const float* __restrict__ A, const float* __restrict__ B, float* __restrict__ C, int n) {
    const int bx = blockIdx.x;
    const int tx = threadIdx.x;
    const int i = bx * 128 + tx;  // kernel.py:7
    if (i < n) {
        C[i] = A[i] + B[i];
    }
}
"""
    )


def test_a_launch_is_described_for_the_host() -> None:
    module = emit_program(vector_add(), SM_80)
    (kernel,) = module.kernels
    assert kernel.entry_name == "add_kernel" and kernel.block == (128, 1, 1) and kernel.dynamic_shared_bytes == 0
    assert [module.slots[n].kind for n in kernel.parameters] == [SlotKind.TENSOR] * 3 + [SlotKind.SYMBOL]
    assert str(kernel.grid[0]) == "(n + 127) // 128" and [str(e) for e in kernel.grid[1:]] == ["1", "1"]


def test_the_text_is_the_same_in_every_run() -> None:
    assert emit_program(vector_add(), SM_80).text == emit_program(vector_add(), SM_80).text


@needs_nvrtc
def test_a_vector_add_compiles_for_all_architectures() -> None:
    compiles_everywhere(vector_add())
