"""CUDA C++ and PTX inside programs: what is called how often, with what, and what the barriers around it are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.codegen.cuda.host_cpp import needs_host_compiler, run_on_host
from tests.execution import refused
from tilewright.backends.compiled import CompileOptions
from tilewright.backends.cuda import generate_cuda
from tilewright.codegen.cuda.module import CudaModule
from tilewright.driver import compile_program
from tilewright.errors import Kind
from tilewright.ir.fingerprint import fingerprint
from tilewright.ir.foreign import ForeignCall, ForeignKind
from tilewright.ir.memory_use import memory_use
from tilewright.ir.only_on_gpus import foreign_calls
from tilewright.ir.printer import print_program
from tilewright.ir.program_bytes import program_from_bytes, program_to_bytes
from tilewright.language.function import PrimFunc
from tilewright.runtime.nvrtc import is_nvrtc_installed
from tilewright.target.nvidia import NVIDIA_TARGETS, SM_80

needs_nvrtc = pytest.mark.skipif(not is_nvrtc_installed(), reason="NVRTC is not installed")
SOURCE = """
__device__ float scaled(float x, int by) { return by * x; }
template <typename Element> __device__ void increase(Element* place, int by) { *place += by; }
__device__ unsigned short same_bits(unsigned short x) { return x; }
"""


def module_of(prim_func: PrimFunc) -> CudaModule:
    return generate_cuda(prim_func.program, SM_80, CompileOptions()).module


def body_of(prim_func: PrimFunc) -> list[str]:
    """The lines of the kernel's body, without the user's places."""
    lines = module_of(prim_func).text.split("{\n", 1)[1].splitlines()
    return [line.split("  //")[0].strip() for line in lines]


def threads_with(statement: Any) -> PrimFunc:
    @T.prim_func
    def kernel(A: T.Tensor((64,), "float32"), N: T.Tensor((64,), "int32"), B: T.Tensor((64,), "float32")):
        with T.Kernel(1, threads=64):
            s = T.alloc_shared((64,), "float32")
            own = T.alloc_local((4,), "int32")
            tx = T.get_thread_binding()
            statement(A, N, B, s, own, tx)

    return kernel


@T.prim_func
def everything(A: T.Tensor((100,), "float32"), H: T.Tensor((100,), "float16"), N: T.Tensor((100,), "int32"), B: T.Tensor((100,), "float32")):
    with T.Kernel(2, threads=64) as bx:
        T.import_source(SOURCE)
        own, count, at = T.alloc_local((4,), "int32"), T.alloc_var("int32", init=3), bx * 64 + T.get_thread_binding()
        if at < 100:
            B[at] = T.call_extern("float32", "scaled", A[at], 3) + T.call_pure_extern("scaled", A[at], at, dtype="float32")
            T.call_extern("handle", "increase", T.access_ptr(N[at], "rw", extent=1), at)
            own[2] = 7
            T.call_extern("increase", T.address_of(own[2]), 5, dtype="void")
            T.evaluate(T.call_extern("handle", "increase", T.address_of(count), 4))
            N[at] = N[at] + own[2] * 1000 + count * 100000
            H[at] = T.call_extern("float16", "same_bits", H[at])


@needs_host_compiler
def test_values_addresses_and_results(tmp_path: Path) -> None:
    a, h = np.linspace(-2, 2, 100, dtype=np.float32), np.linspace(-1, 1, 100).astype(np.float16)
    arrays = {"A": a, "H": h.copy().view(np.uint16), "N": np.arange(100, dtype=np.int32), "B": np.zeros(100, np.float32)}
    run_on_host(module_of(everything), arrays, {}, tmp_path)
    np.testing.assert_array_equal(arrays["B"], 3 * a + np.arange(100, dtype=np.float32) * a)
    np.testing.assert_array_equal(arrays["N"], 2 * np.arange(100) + 12 * 1000 + 7 * 100000)
    np.testing.assert_array_equal(arrays["H"].view(np.float16), h)


@needs_nvrtc
def test_programs_with_foreign_code_compile_for_every_architecture() -> None:
    assembly = threads_with(all_kinds_of_operands)
    for target in NVIDIA_TARGETS.values():
        assert compile_program(everything.program, target).binary.image.startswith(b"\x7fELF")
        assert "brev.b32" in compile_program(assembly.program, target).ptx


def all_kinds_of_operands(A, N, B, s, own, tx):
    reversed_ = T.ptx("brev.b32 %0, %1;", T.cast(N[tx], "uint32"), dtype="uint32")
    wide = T.ptx("mul.wide.s32 %0, %1, %2;", N[tx], 3, dtype="int64")
    half = T.ptx("neg.f16 %0, %1;", T.cast(A[tx], "float16"), dtype="float16")
    double = T.ptx("neg.f64 %0, %1;", T.cast(A[tx], "float64"), dtype="float64")
    byte = T.ptx("add.s32 %0, %1, 1;", T.cast(N[tx], "int8"), dtype="int8")
    lane = T.ptx("mov.u32 %0, %%laneid;", dtype="uint32")
    T.ptx("st.shared.f32 [%0], %1;", T.access_ptr(s[tx], "w", extent=1), A[tx])
    loaded = T.ptx("ld.global.f32 %0, [%1];", T.access_ptr(A[tx], "r"), dtype="float32")
    T.ptx("prefetch.global.L2 [%0];", T.access_ptr(A[tx], "r"))
    B[tx] = T.cast(reversed_ + lane, "float32") + T.cast(wide, "float32") + half + T.cast(double, "float32") + T.cast(byte, "float32") + loaded + s[tx]


def test_assembly_names_its_operands_by_class() -> None:
    lines = body_of(threads_with(all_kinds_of_operands))
    assert 'asm volatile("brev.b32 %0, %1;" : "=r"(held) : "r"((unsigned)N[tx]));' in lines
    assert 'asm volatile("st.shared.f32 [%0], %1;" : : "r"(tw_shared(s + tx)), "f"(A[tx]) : "memory");' in lines
    assert 'asm volatile("ld.global.f32 %0, [%1];" : "=f"(held_6) : "l"(A + tx) : "memory");' in lines
    assert any('"=l"(held_1)' in line for line in lines) and any('"=h"(held_2)' in line for line in lines) and any('"=d"(held_3)' in line for line in lines)


def test_imported_source_stands_once_in_front_of_the_kernels() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((64,), "float32")):
        T.import_source(SOURCE)
        with T.Kernel(1, threads=64, prelude="__device__ int one() { return 1; }"):
            T.import_source(SOURCE)
            A[0] = 1.0

    text = module_of(kernel).text
    assert text.count("scaled(float x") == 1 and text.index("scaled(") < text.index("int one()") < text.index("__global__")
    assert '#line 1 "import_source_0"\n__device__ float scaled' in text
    lines = text.splitlines()
    number = 1 + max(n for n, line in enumerate(lines) if line.startswith("#line"))
    assert lines[number - 1] == f'#line {number + 1} "kernel.cu"'  # places in the rest are those of the whole text


def test_the_text_of_an_imported_source_is_part_of_the_programs_name() -> None:
    def with_source(text: str) -> PrimFunc:
        @T.prim_func
        def kernel(A: T.Tensor((64,), "float32")):
            with T.Kernel(1, threads=64):
                T.import_source(text)
                A[0] = T.call_extern("float32", "f", A[0])

        return kernel

    one, other = with_source("__device__ float f(float x) { return x; }"), with_source("__device__ float f(float x) { return -x; }")
    assert fingerprint(one.program) != fingerprint(other.program)
    assert fingerprint(one.program) == fingerprint(with_source("__device__ float f(float x) { return x; }").program)


def test_programs_with_foreign_code_survive_the_disk() -> None:
    files = sorted({stmt.span.file for stmt in foreign_calls(everything.program)} | {everything.program.span.file})
    data = program_to_bytes(everything.program, files, {})
    again = program_from_bytes(data, files, {})
    assert print_program(again) == print_program(everything.program) and again.sources[0].text == SOURCE
    assert fingerprint(again) == fingerprint(everything.program)


def test_what_is_declared_of_an_address_is_what_the_tensor_is_used_for() -> None:
    def calls(A, N, B, s, own, tx):
        T.call_extern("handle", "f", T.access_ptr(A[tx], "r"), T.access_ptr(B[0], "w"), N)

    use = memory_use(threads_with(calls).program)
    assert [b.name for b in use.read] == ["A", "N"] and [b.name for b in use.written] == ["B", "N"]
    signature = next(line for line in module_of(threads_with(calls)).text.splitlines() if "__global__" in line)
    assert "const float* __restrict__ A" in signature and ", int* __restrict__ N" in signature and ", float* __restrict__ B" in signature


def fill_then_call(access: str, **reach: Any) -> Any:
    def statements(A, N, B, s, own, tx):
        s[tx] = A[tx]
        T.call_extern("handle", "f", T.access_ptr(s[tx], access, **reach))
        B[tx] = s[tx]

    return statements


@pytest.mark.parametrize(
    ("statements", "barriers"),
    [
        (fill_then_call("rw"), 2),  # the function may touch what other threads have written, and write what they read
        (fill_then_call("r"), 1),
        (fill_then_call("rw", extent=1), 0),  # each thread's own element
        (lambda A, N, B, s, own, tx: [T.call_extern("handle", "f", s), T.call_extern("handle", "g", s)], 1),
        (lambda A, N, B, s, own, tx: [T.call_extern("handle", "f", T.access_ptr(s[0], "r")), T.call_extern("handle", "g", T.access_ptr(s[0], "r"))], 0),
        (lambda A, N, B, s, own, tx: [T.call_extern("handle", "f", N), T.call_extern("handle", "g", N)], 0),  # as with atomics
        (lambda A, N, B, s, own, tx: [T.call_extern("handle", "f", N), N.__setitem__(tx, 1)], 1),
        (lambda A, N, B, s, own, tx: [T.call_extern("handle", "f", own), own.__setitem__(0, 1)], 0),
        (lambda A, N, B, s, own, tx: [T.ptx("bar.arrive 1, 64;"), T.ptx("bar.arrive 1, 64;")], 0),
    ],
)
def test_barriers_follow_from_what_is_declared(statements: Any, barriers: int) -> None:
    lines = body_of(threads_with(statements))
    assert lines.count("__syncthreads();") == barriers, lines


def test_a_call_in_a_loop_is_behind_a_barrier_in_every_turn() -> None:
    def turns(A, N, B, s, own, tx):
        for _ in T.serial(4):
            T.call_extern("handle", "rotate", s)

    lines = body_of(threads_with(T.macro(turns)))
    assert lines.index("__syncthreads();") > lines.index(next(line for line in lines if line.startswith("for"))) and "rotate(s);" in lines


def test_calls_that_give_nothing_stay() -> None:
    def unused(A, N, B, s, own, tx):
        T.call_extern("int32", "clock_now")
        T.ptx("mov.u32 %0, %%clock;", dtype="uint32")

    lines = body_of(threads_with(unused))
    assert any("clock_now()" in line for line in lines) and any("%%clock" in line for line in lines)


def test_a_thread_that_meets_others_in_a_branch_is_refused() -> None:
    def branch(A, N, B, s, own, tx):
        if tx < 32:
            s[tx] = A[tx]
            T.call_extern("handle", "f", s)

    with refused(Kind.DIVERGENT_BARRIER, "no barrier can put them in order", "threads part here"):
        module_of(threads_with(T.macro(branch)))


def test_an_iteration_calls_once_however_many_threads_need_the_result() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 128), "float32"), B: T.Tensor((16,), "float32")):
        with T.Kernel(1, threads=128):
            rows, sums = T.alloc_fragment((16, 128), "float32"), T.alloc_fragment((16,), "float32")
            T.copy(A, rows)
            T.reduce_sum(rows, sums, dim=1)
            for i in T.Parallel(16):
                sums[i] = T.call_extern("float32", "scaled", sums[i], i)
            T.copy(sums, B)

    lines = body_of(kernel)
    call = next(n for n, line in enumerate(lines) if "scaled(" in line)
    assert lines[call - 1].startswith("if (") and "lane" in lines[call - 1] and "sums_tile" in lines[call]


def test_tiles_whose_address_is_taken_are_row_major() -> None:
    def product(*addresses: Any) -> str:
        @T.prim_func
        def kernel(A: T.Tensor((64, 64), "float16"), B: T.Tensor((64, 64), "float16"), C: T.Tensor((64, 64), "float32")):
            with T.Kernel(1, threads=128):
                a, b, c = T.alloc_shared((64, 64), "float16"), T.alloc_shared((64, 64), "float16"), T.alloc_fragment((64, 64), "float32")
                T.copy(A, a)
                T.copy(B, b)
                if "b" in addresses:
                    T.call_extern("handle", "dequantise", T.address_of(b[0, 0]))
                T.gemm(a, b, c, clear_accum=True)
                T.copy(c, C)

        return next(line for line in body_of(kernel) if line.startswith("*(uint4*)(b +"))

    assert "^" in product() and "^" not in product("b")


def test_pipelined_tiles_are_passed_by_their_slot() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((64, 64), "float32"), B: T.Tensor((64,), "float32")):
        with T.Kernel(1, threads=128):
            a = T.alloc_shared((64,), "float32")
            for k in T.Pipelined(64, num_stages=3):
                T.copy(A[k, 0], a)
                T.call_extern("handle", "consume", T.access_ptr(a[0], "r"), T.access_ptr(B[0], "rw"), k)

    lines = body_of(kernel)
    assert "consume(a + k % 3 * 64, B, k);" in lines and any("cp.async.wait_group 1" in line for line in lines)


@pytest.mark.parametrize("run", ["cpu", "simulate", "reference"])
def test_others_than_the_gpu_refuse(run: str) -> None:
    with refused(Kind.EXTERN_TARGET, "`scaled` of CUDA C++", "test_foreign.py"):
        if run == "reference":
            tilewright.run_reference(everything.program, {})
        else:
            tilewright.compile(everything, target=run)


def test_imported_source_alone_is_no_obstacle_on_a_cpu() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((64,), "float32")):
        with T.Kernel(1, prelude=SOURCE):
            for i in T.Parallel(64):
                A[i] = 2.0

    a = np.zeros(64, np.float32)
    tilewright.compile(kernel, target="cpu")(a)
    assert (a == 2).all()


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda A, s: T.call_extern("float32"), ("no name of a function",)),
        (lambda A, s: T.call_extern("float32", "a b("), ("the function of T.call_extern",)),
        (lambda A, s: T.call_extern("float32", "f", "text"), ("is text",)),
        (lambda A, s: T.call_extern("float32x4", "f", 1), ("the result of T.call_extern is float32x4",)),
        (lambda A, s: T.call_extern("int4", "f", 1), ("int4",)),
        (lambda A, s: T.ptx(""), ("the template of T.ptx",)),
        (lambda A, s: T.import_source(3), ("T.import_source is",)),
    ],
)
def test_what_foreign_code_cannot_be_given(call: Any, parts: tuple[str, ...]) -> None:
    with refused(Kind.EXTERN_ARGUMENT, *parts):

        @T.prim_func
        def kernel(A: T.Tensor((64,), "float32")):
            with T.Kernel(1, threads=64):
                call(A, T.alloc_shared((64,), "float32"))


def test_the_program_as_text() -> None:
    text = print_program(everything.program)
    assert "call_extern('increase', &N[" in text and "(read-write, element), " in text and "= call_extern('scaled', A[" in text
    calls = list(foreign_calls(everything.program))
    assert len(calls) == 6 and all(isinstance(c, ForeignCall) and c.kind is ForeignKind.FUNCTION for c in calls)
