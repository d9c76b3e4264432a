"""Statements: readable text, and what it does on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.codegen.cuda.host_cpp import needs_host_compiler, run_on_host
from tests.codegen.cuda.nvrtc_checks import compiles_everywhere, needs_nvrtc
from tests.codegen.cuda.test_expressions import packed, unpacked
from tests.codegen.cuda.thread_programs import BLOCK, SPAN, THREAD, at, local, program, seq, shared, store, tensor, variable
from tilewright import dtypes
from tilewright.codegen.cuda.options import CudaOptions
from tilewright.codegen.cuda.program import emit_program
from tilewright.dtypes import as_dtype, float16, float32, int4, int32, int64, uint32
from tilewright.errors import CompilerBug, Span
from tilewright.ir import expr as e
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, as_expr, const, var
from tilewright.ir.instruction import Access, AddressOperand, ImmediateOperand, Instruction, InstructionScope, RegisterOperand, ValueOperand
from tilewright.ir.program import Program
from tilewright.ir.stmt import Assert, Assume, Barrier, BarrierScope, Break, Continue, For, If, Let, LoopKind, Prefetch, Print, Stmt, While
from tilewright.ir.thread import Address, InstructionCall, Registers, VectorCopy
from tilewright.target.nvidia import SM_80


def body_of(made: Program, options: CudaOptions | None = None) -> list[str]:
    """The lines of the kernel's body, without places."""
    lines = emit_program(made, SM_80, options).text.splitlines()
    start = next(n for n, line in enumerate(lines) if "__global__" in line)
    return [line.partition("  //")[0] for line in lines[start + 1 : -1] if "threadIdx" not in line and "blockIdx" not in line]


def loop(variable_: Expr, extent: Expr | int, *body: Stmt, kind: LoopKind = LoopKind.SERIAL) -> For:
    return For(SPAN, variable_, as_expr(extent), kind, seq(*body))


class _Sum(Instruction):
    """A made-up instruction with every kind of operand."""

    name = "test.sum"
    scope = InstructionScope.THREAD
    feature = None
    operands = (
        RegisterOperand("d", float32, 2, Access.READ_WRITE),
        RegisterOperand("a", float16, 4, Access.READ),
        AddressOperand("tile", Scope.SHARED, 4, Access.READ),
        AddressOperand("memory", Scope.GLOBAL, 4, Access.READ),
        ValueOperand("scale", int32),
        ImmediateOperand("mode"),
    )

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        assert [len(operands[o.name]) for o in self.operands] == [2, 2, 1, 1, 1, 1]
        return f"sum({', '.join(text for texts in operands.values() for text in texts)})"


# -- control flow


def test_loops_say_whether_they_are_unrolled() -> None:
    a, i, j = tensor("a", float32, 64), var("i"), var("j")
    made = program([a], seq(loop(i, 8, loop(j, 8, store(a, i * 8 + j, 1.0), kind=LoopKind.UNROLLED))))
    assert body_of(made) == [
        "    #pragma unroll 1",
        "    for (int i = 0; i < 8; ++i) {",
        "        #pragma unroll",
        "        for (int j = 0; j < 8; ++j) {",
        "            a[i * 8 + j] = 1.0f;",
        "        }",
        "    }",
    ]


def test_an_extent_that_is_loaded_is_read_once() -> None:
    n, i = tensor("n", int32, 1), var("i")
    made = program([n], seq(loop(i, at(n, 0), store(n, 0, at(n, 0) - 1))))
    assert "    const int extent = n[0];" in body_of(made) and "    for (int i = 0; i < extent; ++i) {" in body_of(made)


def test_branches_breaks_and_names_that_repeat() -> None:
    a, i, x = tensor("a", int32, 64), var("i"), var("x")
    inner = seq(Let(SPAN, x, at(a, i)), If(SPAN, x > 5, seq(Break(SPAN)), seq(If(SPAN, x < 2, seq(Continue(SPAN))))), store(a, i, x + 1))
    made = program([a], seq(loop(i, 64, inner), loop(i, 64, inner)))
    text = body_of(made)
    assert "        if (x > 5) {" in text and "            break;" in text and "        } else {" in text
    assert "    for (int i_1 = 0; i_1 < 64; ++i_1) {" in text and "        const int x_1 = a[i_1];" in text


def test_a_condition_that_needs_names_is_evaluated_every_turn() -> None:
    a, s = tensor("a", int32, 8), variable("s", int32)
    step = at(a, at(s, 0) % 8) * 3
    made = program([a], seq(store(s, 0, 0), While(SPAN, (step > 4) & (step < 100), seq(store(s, 0, at(s, 0) + 1))), store(a, 0, at(s, 0))), buffers=[s])
    text = body_of(made)
    assert "    while (true) {" in text and any(line.startswith("        if (!(") and line.endswith("break;") for line in text)


@needs_host_compiler
def test_control_flow_runs(tmp_path: Path) -> None:
    out, data = tensor("out", int32, 4, 16), tensor("data", int32, 4, 16)
    i, total = var("i"), variable("total", int32)
    value = at(data, BLOCK, i)
    turn = seq(
        If(SPAN, value > 90, seq(Break(SPAN))),
        If(SPAN, e.binary(Op.EQ, value % 3, 0), seq(Continue(SPAN)), None),
        store(total, 0, at(total, 0) + value),
        store(out, (BLOCK, i), e.select(at(total, 0) > 100, at(total, 0), -value)),
    )
    made = program([out, data], seq(store(total, 0, 0), loop(i, 16, turn)), grid=(4,), buffers=[total])
    values = np.random.default_rng(0).integers(0, 100, (4, 16)).astype(np.int32)
    arrays = {"out": np.zeros((4, 16), np.int32), "data": values}
    run_on_host(emit_program(made, SM_80), arrays, {}, tmp_path)
    expected = np.zeros((4, 16), np.int32)
    for row in range(4):
        sum_ = 0
        for k in range(16):
            if values[row, k] > 90:
                break
            if values[row, k] % 3 == 0:
                continue
            sum_ += values[row, k]
            expected[row, k] = sum_ if sum_ > 100 else -values[row, k]
    np.testing.assert_array_equal(arrays["out"], expected)


# -- sharing and depth


def test_what_is_used_twice_is_computed_once() -> None:
    a, b = tensor("a", float32, 64), tensor("b", float32, 64)
    square = (at(a, THREAD) + 10.5) * (at(a, THREAD) + 10.5)
    assert body_of(program([a, b], seq(store(b, THREAD, square + square)), threads=64)) == [
        "    const float t = a[tx] + 10.5f;",
        "    b[tx] = t * t + t * t;",
    ]


def test_what_a_condition_protects_is_not_computed_ahead() -> None:
    a, b = tensor("a", float32, 64), tensor("b", float32, 64)
    value = at(a, THREAD + 1) * 2.0
    guarded = e.select(THREAD < 63, value * value + value, const(0.0), is_lazy=True)
    lines = body_of(program([a, b], seq(store(b, THREAD, guarded)), threads=64))
    assert "    if (tx < 63) {" in lines and next(n for n, line in enumerate(lines) if "a[tx + 1]" in line) > lines.index("    if (tx < 63) {")


@needs_host_compiler
def test_deep_and_shared_expressions(tmp_path: Path) -> None:
    a = tensor("a", int32, 1)
    value: Expr = at(a, 0)
    for _ in range(3000):
        value = value + 1
    doubled = value
    for _ in range(20):
        doubled = e.binary(Op.BIT_XOR, doubled + doubled, value)
    arrays = {"a": np.array([5], np.int32)}
    run_on_host(emit_program(program([a], seq(store(a, 0, doubled))), SM_80), arrays, {}, tmp_path)
    expected = np.int64(3005)
    for _ in range(20):
        expected = ((expected + expected) & 0xFFFFFFFF) ^ 3005
    assert int(arrays["a"][0]) & 0xFFFFFFFF == int(expected)


# -- indices


def test_indices_take_64_bits_where_32_are_not_enough() -> None:
    m, n, i = var("m"), var("n"), var("i", int32)
    small, large, dynamic = tensor("small", float32, 1 << 15, 1 << 15), tensor("large", float32, 1 << 17, 1 << 16), tensor("dynamic", float32, m, n)
    made = program(
        [small, large, dynamic],
        seq(Let(SPAN, i, BLOCK * 256 + THREAD), store(small, (i, 5), 1.0), store(large, (i, THREAD), 1.0), store(dynamic, (i, THREAD), 1.0)),
        threads=256,
        grid=(512,),
    )
    assert body_of(made)[-3:] == [
        "    small[i * 32768 + 5] = 1.0f;",
        "    large[(long long)i * 65536 + tx] = 1.0f;",
        "    dynamic[(long long)i * n + tx] = 1.0f;",
    ]


@needs_host_compiler
def test_large_indices_are_exact(tmp_path: Path) -> None:
    n, out = var("n"), tensor("out", int64, 4)
    made = program([tensor("shape", float32, n), out], seq(store(out, BLOCK, e.cast(n, int64) * (BLOCK + 3) - n * 2)), grid=(4,))
    arrays = {"shape": np.zeros(1, np.float32), "out": np.zeros(4, np.int64)}
    size = (1 << 31) - 5
    run_on_host(emit_program(made, SM_80), arrays, {"n": size}, tmp_path)
    assert arrays["out"].tolist() == [size * (b + 1) for b in range(4)]


def test_data_may_wrap_and_indices_may_not() -> None:
    a, i = tensor("a", int32, 64), var("i")
    lines = body_of(program([a], seq(loop(i, 63, store(a, i + 1, at(a, i) + at(a, i + 1))))))
    assert "        a[i + 1] = (int)((unsigned)a[i] + (unsigned)a[i + 1]);" in lines


# -- memory


def test_views_and_shared_memory() -> None:
    tile, own = shared("tile", float16, 256), local("own", float16, 8)
    words, view = shared("words", uint32, 128, source=tile), local("own_words", uint32, 4, source=own)
    out = tensor("out", uint32, 64)
    body = seq(
        VectorCopy(SPAN, Address(own, (const(0),)), Address(tile, (THREAD * 8,)), 8),
        store(words, THREAD, at(view, 1)),
        Barrier(SPAN),
        store(out, THREAD, at(words, THREAD)),
    )
    assert body_of(program([out], body, threads=32, buffers=[shared("first", float32, 5), tile, own])) == [
        "    extern __shared__ __align__(1024) unsigned char shared[];",
        "    unsigned short* const tile = (unsigned short*)(shared + 32);",
        "    unsigned* const words = (unsigned*)(shared + 32);",
        "    __align__(16) unsigned short own[8];",
        "    unsigned* const own_words = (unsigned*)own;",
        "    *(uint4*)own = *(const uint4*)(tile + tx * 8);",
        "    words[tx] = own_words[1];",
        "    __syncthreads();",
        "    out[tx] = words[tx];",
    ]


@needs_host_compiler
@pytest.mark.parametrize("dtype", ["int4", "uint4", "float4_e2m1fn", "int8", "float16", "float32", "float64"])
def test_wide_copies(dtype: str, tmp_path: Path) -> None:
    kind = as_dtype(dtype)
    elements = {4: 8, 8: 4, 16: 4, 32: 2, 64: 2}[kind.bits]
    source, target, own = tensor("source", kind, 64), tensor("target", kind, 64), local("own", kind, 2 * elements)
    start = BLOCK * elements
    body: list[Stmt] = [
        VectorCopy(SPAN, Address(own, (const(elements),)), Address(source, (start,)), elements),
        VectorCopy(SPAN, Address(target, (start,)), Address(own, (const(elements),)), elements),
    ]
    if not kind.is_packed:  # registers that do not start at a multiple of the access
        body += [
            VectorCopy(SPAN, Address(own, (const(1),)), Address(target, (start,)), elements),
            VectorCopy(SPAN, Address(target, (start,)), Address(own, (const(1),)), elements),
        ]
    values = np.arange(64) % 7
    arrays = {"source": packed(values.astype(kind.numpy), kind), "target": packed(np.zeros(64, kind.numpy), kind)}
    run_on_host(emit_program(program([source, target], seq(*body), grid=(64 // elements,), buffers=[own]), SM_80), arrays, {}, tmp_path)
    np.testing.assert_array_equal(unpacked(arrays["target"], kind, 64).astype(np.float32), values.astype(kind.numpy).astype(np.float32))


@needs_host_compiler
def test_half_bytes_everywhere(tmp_path: Path) -> None:
    out, own, tile, i = tensor("out", int4, 16), local("own", int4, 16), shared("tile", int4, 16), var("i")
    fill = loop(i, 16, store(own, i, e.cast(i - 8, int4)), store(tile, 15 - i, e.cast(i, int4)))
    made = program([out], seq(fill, loop(var("j"), 1), loop(i, 16, store(out, i, at(own, i) + at(tile, i)))), buffers=[own, tile])
    arrays = {"out": np.zeros(8, np.uint8)}
    run_on_host(emit_program(made, SM_80), arrays, {}, tmp_path)
    wrapped = [(k - 8) + (15 - k) for k in range(16)]
    assert unpacked(arrays["out"], int4, 16).astype(int).tolist() == [(v + 8) % 16 - 8 for v in wrapped]


def test_pointers_that_may_alias_are_not_restricted() -> None:
    a, address = tensor("a", float32, 8), var("address", dtypes.uint64)
    made = Buffer("made", float32, (8,), Scope.GLOBAL, SPAN, pointer=address)
    text = emit_program(program([a, address], seq(store(made, BLOCK, at(a, BLOCK)))), SM_80).text
    assert "kernel(const float* a, unsigned long long address) {" in text and "((float*)address)[bx] = a[bx];" in text


def test_only_what_exists_is_prefetched() -> None:
    a = tensor("a", float32, 64)
    assert body_of(program([a], seq(Prefetch(SPAN, a, (THREAD * 2,))), threads=64)) == [
        "    if (tx * 2 >= 0 && tx * 2 < 64) {",
        '        asm volatile("prefetch.global.L2 [%0];" : : "l"(a + tx * 2));',
        "    }",
    ]


# -- instructions


def test_an_instruction_gets_registers_addresses_values_and_immediates() -> None:
    d, a, tile, memory = local("d", float32, 4), local("a", float16, 8), shared("tile", int32, 64), tensor("memory", int32, 64)
    call = InstructionCall(
        SPAN, _Sum(), (Registers(d, const(2)), Registers(a, const(4)), Address(tile, (THREAD,)), Address(memory, (THREAD + 1,)), THREAD * 2, 7)
    )
    (line,) = (n for n in body_of(program([memory], seq(call), threads=32, buffers=[d, a, tile])) if "sum" in n)
    assert line == "    sum(d[2], d[3], ((unsigned*)a)[2], ((unsigned*)a)[3], tw_shared(tile + tx), memory + (tx + 1), tx * 2, 7);"
    wrong = InstructionCall(SPAN, _Sum(), (Registers(d, const(2)), Registers(a, const(3)), *call.operands[2:]))
    with pytest.raises(CompilerBug, match="middle of a machine register"):
        emit_program(program([memory], seq(wrong), threads=32, buffers=[d, a, tile]), SM_80)


# -- barriers and the host


def test_barriers() -> None:
    made = program([], seq(Barrier(SPAN), Barrier(SPAN, BarrierScope.WARP), Barrier(SPAN, BarrierScope.BLOCK, 2, 64)), threads=128)
    assert body_of(made) == ["    __syncthreads();", "    __syncwarp();", '    asm volatile("bar.sync 2, 64;" ::: "memory");']
    with pytest.raises(CompilerBug, match="count blocks"):
        emit_program(program([], seq(Barrier(SPAN, BarrierScope.GRID))), SM_80)


def test_an_assert_leaves_its_number_and_ends_the_thread() -> None:
    a = tensor("a", int32, 8)
    check = Assert(SPAN, at(a, BLOCK) < 5, "too large")
    module = emit_program(program([a], seq(check, store(a, BLOCK, 1))), SM_80)
    assert "    if (!(a[bx] < 5)) {  // kernel.py:7\n        atomicCAS(status, 0, 1);\n        return;\n    }\n" in module.text
    assert module.asserts == (check,) and len(module.kernels[0].parameters) == 2
    waiting = emit_program(program([a], seq(check, Barrier(SPAN, BarrierScope.BLOCK, 1, 64)), threads=128), SM_80).text
    assert "__trap();" in waiting and "return;" not in waiting


@needs_host_compiler
def test_the_status_names_the_assert_that_failed(tmp_path: Path) -> None:
    a = tensor("a", int32, 8)
    made = program([a], seq(Assert(SPAN, at(a, BLOCK) < 100, ""), Assert(SPAN, at(a, BLOCK) > -100, ""), store(a, BLOCK, 1)), grid=(8,))
    arrays = {"a": np.array([1, 2, -500, 4, 5, 6, 7, 8], np.int32)}
    assert run_on_host(emit_program(made, SM_80), arrays, {}, tmp_path) == 2
    assert arrays["a"].tolist() == [1, 1, -500, 1, 1, 1, 1, 1]


def test_promises_and_prints() -> None:
    a, own = tensor("a", float16, 8), local("own", float32, 2)
    body = seq(
        Assume(SPAN, BLOCK < 4),
        Print(SPAN, '50% of "x":', (at(a, BLOCK), BLOCK, BLOCK > 1)),
        store(own, 0, 1.0),
        Print(SPAN, "own", (), own),
    )
    assert body_of(program([a], body, buffers=[own])) == [
        "    __align__(16) float own[2];",
        "    __builtin_assume(bx < 4);",
        '    printf("50%% of \\042x\\042: %.9g %d %s\\n", tw_float_of_float16(a[bx]), bx, bx > 1 ? "True" : "False");',
        "    own[0] = 1.0f;",
        "    #pragma unroll 1",
        "    for (int i = 0; i < 2; ++i) {",
        '        printf("own[%d] = %.9g\\n", i, own[i]);',
        "    }",
    ]


def test_a_promise_about_a_name_gives_its_range_for_the_rest_of_the_sequence() -> None:
    a, own = tensor("a", int32, 1 << 20), local("own", int32, 1)
    slot = var("slot")
    known = e.logical(Op.AND, slot >= 0, slot < 3)

    def address(*promises: Stmt) -> str:
        body = seq(Let(SPAN, slot, at(own, 0)), *promises, store(a, slot * 8192 + THREAD, 1))
        return body_of(program([a], body, buffers=[own], threads=32))[-1]

    assert address(Assume(SPAN, known)) == "    a[slot * 8192 + tx] = 1;"
    assert "unsigned" in address()  # any int32: the product may wrap


def test_places_are_comments_or_directives() -> None:
    a = tensor("a", int32, 8)
    other = Span("folder/other.py", 12)
    body = seq(store(a, 0, 1), store(a, 1, 2), Let(other, var("unused"), const(3)))
    made = program([a], body)
    comments = emit_program(made, SM_80).text
    assert comments.count("// kernel.py:7") == 1 and comments.count("// other.py:12") == 1
    assert '#line 12 "folder/other.py"' in emit_program(made, SM_80, CudaOptions(has_line_directives=True)).text


@needs_nvrtc
def test_statements_compile() -> None:
    tile, own, out = shared("tile", float16, 256), local("own", float16, 8), tensor("out", float32, 64)
    i, total, half = var("i"), variable("total", float32), variable("half", float16)
    body = seq(
        store(total, 0, 0.0),
        store(half, 0, 0.0),
        VectorCopy(SPAN, Address(own, (const(0),)), Address(tile, (THREAD * 8,)), 8),
        loop(i, 8, store(total, 0, at(total, 0) + e.cast(at(own, i), float32)), store(half, 0, at(half, 0) + at(own, i)), kind=LoopKind.UNROLLED),
        Barrier(SPAN),
        Barrier(SPAN, BarrierScope.BLOCK, 3, 32),
        Assert(SPAN, at(total, 0) < 1e9, ""),
        Assume(SPAN, THREAD < 64),
        Print(SPAN, "total", (at(total, 0), at(half, 0))),
        Print(SPAN, "out", (), out),
        While(SPAN, at(total, 0) > 1.0, seq(store(total, 0, at(total, 0) * 0.5))),
        store(out, THREAD, at(total, 0)),
    )
    made = compiles_everywhere(program([out], body, threads=32, buffers=[tile, own, total, half]))
    assert all(cubin.resources["kernel_kernel"].registers > 0 for cubin in made.values())
