"""The verifier: programs as the front end and the passes make them hold, and each broken rule is named with the pass that broke it."""

from __future__ import annotations

import dataclasses

import pytest

import tilewright.language as T
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, const, load, var
from tilewright.ir.program import Launch, Parameter, ParameterKind, Program
from tilewright.ir.stmt import (
    Barrier,
    Break,
    For,
    If,
    Let,
    LoopKind,
    ParallelFor,
    ReduceKind,
    ReduceLoop,
    Seq,
    Stmt,
    Store,
    WarpExchange,
    WarpExchangeKind,
    While,
)
from tilewright.ir.verify import Level, verify
from tilewright.ops.fill import Fill
from tilewright.passes import CPU_PASSES, PassContext, run_passes
from tilewright.target.cpu import host_target

SPAN = Span("kernel.py", 3)
TENSOR = Buffer("A", T.dtype("float32"), (8,), Scope.GLOBAL, SPAN)
TILE = Buffer("s", T.dtype("float32"), (8,), Scope.SHARED, SPAN)
STRANGER = Buffer("other", T.dtype("float32"), (8,), Scope.SHARED, SPAN)
I = var("i")
ZERO = const(0)


def program(body: Stmt) -> Program:
    threads = (var("tx"), var("ty"), var("tz"))
    launch = Launch((const(2),), (var("bx"),), (1, 1, 1), threads, (TILE,), body, SPAN)
    return Program("f", (Parameter("A", ParameterKind.TENSOR, SPAN, buffer=TENSOR),), (launch,), SPAN)


def store(index: Expr = ZERO, value: Expr | None = None, buffer: Buffer = TILE) -> Store:
    return Store(SPAN, buffer, (index,), const(1.0) if value is None else value)


def exchange(result: Expr, kind: WarpExchangeKind, value: Expr, operand: Expr | None = None, width: int = 32) -> WarpExchange:
    return WarpExchange(SPAN, result, kind, value, operand, width, const(0xFFFFFFFF, T.dtype("uint32")))


BROKEN: dict[str, tuple[Stmt, Level]] = {
    "`i` is used where it is not bound": (store(I), Level.TILE),
    "`x` is used where it is not bound": (Seq(SPAN, (If(SPAN, const(True), Let(SPAN, (x := var("x")), const(1))), store(x))), Level.TILE),
    "the shared buffer other does not belong to the launch": (store(buffer=STRANGER), Level.TILE),
    "A has 1 dimensions and is indexed with 2": (store(value=load(TENSOR, (ZERO, ZERO))), Level.TILE),
    "int32 is stored to s, which is float32": (store(value=const(1)), Level.TILE),
    "an index of s is `0.5`, which is float32": (store(const(0.5)), Level.TILE),
    "the condition `1` is int32": (While(SPAN, const(1), Seq(SPAN, ())), Level.TILE),
    "loop control stands outside a loop": (ParallelFor(SPAN, (I,), (const(4),), Break(SPAN)), Level.TILE),
    "1 extents have 2 variables": (ParallelFor(SPAN, (I, var("j")), (const(4),), Seq(SPAN, ())), Level.TILE),
    "v is int32, its value float32": (Let(SPAN, var("v"), const(1.0)), Level.TILE),
    "r is float32, combined from float32 and int32": (
        ReduceLoop(SPAN, var("r", T.dtype("float32")), ReduceKind.SUM, const(0.0), var("k"), const(4), const(1)),
        Level.TILE,
    ),
    "x is float32, but this exchange gives int32": (exchange(var("x", T.dtype("float32")), WarpExchangeKind.ANY, const(True)), Level.TILE),
    "a vote on `1`, which is int32": (exchange(var("x"), WarpExchangeKind.ALL, const(1)), Level.TILE),
    "shfl needs a lane": (exchange(var("x"), WarpExchangeKind.SHUFFLE, const(1)), Level.TILE),
    "reduce_sum takes no lane": (exchange(var("x"), WarpExchangeKind.SUM, const(1), ZERO), Level.TILE),
    "a lane is `0.5`, which is float32": (exchange(var("x"), WarpExchangeKind.SHUFFLE, const(1), const(0.5)), Level.TILE),
    "the width 3 is no power of two": (exchange(var("x"), WarpExchangeKind.SHUFFLE, const(1), ZERO, 3), Level.TILE),
    "a region of s has 2 starts for 1 dimensions": (Fill(SPAN, Region(TILE, (ZERO, ZERO), (8, 8), (True, True), SPAN), const(1.0)), Level.TILE),
    "a tile operation is left": (Fill(SPAN, Region(TILE, (ZERO,), (8,), (True,), SPAN), const(1.0)), Level.LOWERED),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_broken_rules_are_named(rule: str) -> None:
    body, level = BROKEN[rule]
    with pytest.raises(CompilerBug) as caught:
        verify(program(body), level, "some_pass")
    assert f"after some_pass: {rule}" in str(caught.value)
    assert "kernel.py:3" in str(caught.value)


def test_a_name_is_visible_in_the_rest_of_its_sequence() -> None:
    value = var("value", T.dtype("float32"))
    body = Seq(SPAN, (Let(SPAN, value, load(TENSOR, (ZERO,))), For(SPAN, I, const(8), LoopKind.SERIAL, Seq(SPAN, (store(I, value), Break(SPAN))))))
    verify(program(body), Level.TILE, "tracing")
    verify(program(body), Level.LOWERED, "lowering")


def test_a_traced_program_holds_at_every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    n = T.dynamic("n")

    @T.prim_func
    def kernel(A: T.Tensor((n, 64), "float16"), B: T.Tensor((64, 32), "float16"), C: T.Tensor((n, 32), "float32")):
        with T.Kernel(T.ceildiv(n, 16)) as bx:
            a = T.alloc_shared((16, 64), "float16")
            b = T.alloc_shared((64, 32), "float16")
            c = T.alloc_fragment((16, 32), "float32")
            rows = T.alloc_fragment((16,), "float32")
            T.copy(A[bx * 16, 0], a)
            T.copy(B, b)
            T.gemm(a, b, c, clear_accum=True)
            T.reduce_max(c, rows, dim=1)
            for i, j in T.Parallel(16, 32):
                c[i, j] = T.exp(c[i, j] - rows[i])
            T.copy(c, C[bx * 16, 0])

    monkeypatch.setenv("TILEWRIGHT_VERIFY", "1")
    lowered = run_passes(kernel.program, PassContext(host_target()), CPU_PASSES)
    verify(lowered, Level.LOWERED, "all passes")
    with pytest.raises(CompilerBug, match="a tile operation is left"):
        verify(kernel.program, Level.LOWERED, "tracing")


def test_a_launch_with_too_few_block_variables() -> None:
    whole = program(Seq(SPAN, ()))
    launch = dataclasses.replace(whole.launches[0], grid=(const(2), const(2)))
    with pytest.raises(CompilerBug, match="2 grid extents have 1 variables"):
        verify(dataclasses.replace(whole, launches=(launch,)), Level.TILE, "tracing")


def test_the_result_of_an_exchange_is_visible_after_it() -> None:
    x = var("x")
    body = Seq(SPAN, (Barrier(SPAN), exchange(x, WarpExchangeKind.SHUFFLE_XOR, const(1), const(16)), store(value=x.astype("float32"))))
    verify(program(body), Level.TILE, "a pass")
    with pytest.raises(CompilerBug, match="`x` is used where it is not bound"):
        verify(program(Seq(SPAN, (store(x), *body.body))), Level.TILE, "a pass")
