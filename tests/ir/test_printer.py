"""Programs as text: stable, one statement a line, names unique."""

from __future__ import annotations

import re

import tilewright.language as T
from tilewright import dtypes
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import const, load, var
from tilewright.ir.printer import Printer, print_program, print_stmt
from tilewright.ir.stmt import Barrier, BarrierScope, For, LoopKind, PackPanels, Seq, Store, WarpExchange, WarpExchangeKind

HERE = Span("kernel.py", 7)


def stripped(text: str) -> str:
    """Without the line numbers of this file."""
    return re.sub(r"  # \d+$", "", text, flags=re.M)


def test_a_program_with_every_kind_of_statement() -> None:
    n = T.dynamic("n")

    @T.prim_func
    def kernel(A: T.Tensor((n, 8), "float16"), m: T.int32, p: T.ptr):
        W = T.alloc_global((4,), "float32")
        with T.Kernel(T.ceildiv(n, 8), 2, threads=64) as (bx, by):
            s, c = T.alloc_shared((8, 8), "float16"), T.alloc_fragment((8, 8), "float32")
            v = T.alloc_var("int32", init=3)
            T.copy(A[bx * 8, 0], s)
            T.clear(c)
            for k in T.Pipelined(m, num_stages=2):
                T.gemm(s, s[0:8, :], c, clear_accum=k == 0)
            for i, j in T.Parallel(8, 8):
                if i < m:
                    c[i, j] = c[i, j] * 2 + v
                else:
                    c[i, j] = 0
            x = A[bx, 0]
            while v > 0:
                v -= 1
                if v == 2:
                    break
                if v == 1:
                    continue
            T.atomic_add(W[by], T.cast(x, "float32"))
            T.device_assert(m > 0, "positive")
            T.assume(m < 9)
            T.print(v, "v")
            T.print(s)

    text = print_program(kernel.program)
    assert text == kernel.script()
    assert stripped(text).splitlines()[:9] == [
        "def kernel(A: float16[n, 8], m: int32, p: handle):",
        "    W: workspace float32[4]",
        "    with Kernel((n + 7) // 8, 2, threads=(64, 1, 1)) as (bx, by):",
        "        s: shared float16[8, 8]",
        "        c: fragment float32[8, 8]",
        "        v: variable int32[1]",
        "        v[0] = 3",
        "        copy(src=A[bx * 8:+8, 0:+8], dst=s, extents=(8, 8), src_axes=(0, 1), dst_axes=(0, 1))",
        "        fill(dst=c, value=0.0)",
    ]
    for line in (
        "        for k in Pipelined(m, num_stages=2):",
        "        for i, j in Parallel(8, 8):",
        "            if i < m:",
        "            else:",
        "        while v[0] > 0:",
        "                break",
        "                continue",
        "        device_assert(m > 0, 'positive')",
        "        assume(m < 9)",
        "        print('v', v[0])",
        "        print('s', s)",
    ):
        assert line in stripped(text).splitlines(), line
    assert "        x = A[bx, 0]" in stripped(text) and "atomic_add(W[by], " in text and "relaxed)" in text
    assert all(re.search(r"  # \d+$", line) for line in text.splitlines()[7:] if "else" not in line and "pass" not in line)
    assert text == print_program(kernel.program)


def test_names_are_numbered_in_order_of_appearance() -> None:
    a = Buffer("A", dtypes.int32, (8,), Scope.GLOBAL, HERE)
    first, second, third = var("i"), var("i"), var("i")
    body = Seq(HERE, tuple(For(HERE, v, const(4), LoopKind.SERIAL, Store(HERE, a, (v,), load(a, (v,)))) for v in (first, second, third)))
    assert stripped(print_stmt(body)).splitlines() == [
        "for i in serial(4):", "    A[i] = A[i]", "for i_1 in serial(4):", "    A[i_1] = A[i_1]", "for i_2 in serial(4):", "    A[i_2] = A[i_2]"]  # fmt: skip
    printer = Printer()
    assert [printer.name(v) for v in (third, first, third)] == ["i", "i_1", "i"]


def test_a_name_that_looks_numbered_is_not_given_twice() -> None:
    printer = Printer()
    names = [printer.name(var(n)) for n in ("i", "i", "i_1", "i", "i_1")]
    assert len(set(names)) == 5 and names[0] == "i"


def test_tiles_of_one_name_are_told_apart() -> None:
    @T.macro
    def double(B, k):
        held = T.alloc_shared((8,), "float32")
        T.fill(held, k)
        B[k] = held[k] * 2

    @T.prim_func
    def kernel(B: T.Tensor((8,), "float32")):
        with T.Kernel(1):
            double(B, 0)
            double(B, 1)

    text = print_program(kernel.program)
    assert "held_1: shared float32[8]" in text and "B[1] = held_1[1] * 2.0" in text and "fill(dst=held_1, value=1.0)" in text


def test_empty_bodies_and_statements_of_no_syntax() -> None:
    i = var("i")
    assert stripped(print_stmt(For(HERE, i, const(4), LoopKind.UNROLLED, Seq(HERE, ())))).splitlines() == ["for i in unroll(4):", "    pass"]
    a, b = Buffer("A", dtypes.int32, (8, 8), Scope.GLOBAL, HERE), Buffer("b", dtypes.int32, (64,), Scope.SHARED, HERE)
    pack = PackPanels(HERE, a, const(0), const(8), False, const(8), const(8), b, const(0), 8, 8, 8, 80)
    assert stripped(print_stmt(pack)).startswith("PackPanels(source=A, offset=0, leading_stride=8, is_transposed=False")


def test_outputs_and_views() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((8,), "float32")):
        B = T.empty((8,), "float32")
        with T.Kernel(1):
            s = T.alloc_shared((8,), "float32")
            flat = T.reshape(s, (2, 4))
            T.copy(A, s)
            T.copy(s, B)
            flat[0, 0] = 1
        return B

    text = print_program(kernel.program)
    assert "B: float32[8] (output)" in text and "flat[0, 0] = 1.0" in text


def test_barriers_and_exchanges() -> None:
    mask, x, y = const(0xFFFFFFFF, dtypes.uint32), var("x"), var("y")
    body = Seq(
        HERE,
        (
            Barrier(HERE),
            Barrier(HERE, BarrierScope.BLOCK, 3, 64),
            WarpExchange(HERE, x, WarpExchangeKind.SHUFFLE_DOWN, const(5), const(16), 32, mask),
            WarpExchange(HERE, y, WarpExchangeKind.SUM, x, None, 32, mask),
        ),
    )
    assert stripped(print_stmt(body)).splitlines() == [
        "barrier_block()", "barrier_block(3, 64)",
        "x = warp_shfl_down(5, 16, 32, uint32(4294967295))", "y = warp_reduce_sum(x, uint32(4294967295))"]  # fmt: skip
