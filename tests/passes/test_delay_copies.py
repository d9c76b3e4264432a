"""Copies for later turns are started behind the loads that a turn begins with."""

from __future__ import annotations

from typing import Any

import numpy as np

import tilewright.language as T
from tilewright import dtypes
from tilewright.errors import Span
from tilewright.intrin.nvidia.cp_async import CP_ASYNC_COMMIT_GROUP, CP_ASYNC_WAIT_GROUP, cp_async
from tilewright.intrin.nvidia.ldmatrix import ldmatrix
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, const, load, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Barrier, For, If, Let, LoopKind, Seq, Stmt
from tilewright.ir.thread import Address, InstructionCall, Registers
from tilewright.ir.visit import statements
from tilewright.passes import GPU_PASSES, run_passes
from tilewright.passes.context import GpuPassContext
from tilewright.passes.delay_copies import delay_copies
from tilewright.sim.simulate import simulate
from tilewright.target.nvidia import SM_80

SPAN = Span("kernel.py", 1, 0, 1, 1)
GLOBAL = Buffer("A", dtypes.float16, (1024,), Scope.GLOBAL, SPAN)
SHARED = Buffer("tile", dtypes.float16, (1024,), Scope.SHARED, SPAN)
LOCAL = Buffer("registers", dtypes.float16, (8,), Scope.LOCAL, SPAN)
COUNTS = Buffer("counts", dtypes.int32, (8,), Scope.LOCAL, SPAN)

COMMIT = InstructionCall(SPAN, CP_ASYNC_COMMIT_GROUP, ())
WAIT = InstructionCall(SPAN, CP_ASYNC_WAIT_GROUP, (1,))


def copy(at: Expr) -> Stmt:
    return InstructionCall(SPAN, cp_async(16), (Address(SHARED, (at,)), Address(GLOBAL, (at,))))


def loads(into: Buffer = LOCAL) -> Stmt:
    return InstructionCall(SPAN, ldmatrix(into.dtype, 4), (Registers(into, const(0)), Address(SHARED, (const(0),))))


def order(*body: Stmt) -> list[Stmt]:
    launch = Launch((const(1),), (var("bx"),), (32, 1, 1), (var("tx"), var("ty"), var("tz")), (SHARED, LOCAL), Seq(SPAN, body), SPAN)
    made = delay_copies(Program("kernel", (), (launch,), SPAN), GpuPassContext(SM_80))
    assert isinstance(made.launches[0].body, Seq)
    return list(made.launches[0].body.body)


def test_loads_go_first_even_out_of_an_inner_sequence() -> None:
    turn, i = var("k"), var("i")
    start = If(SPAN, turn < 4, For(SPAN, i, const(2), LoopKind.UNROLLED, copy(i)))
    name, load_, barrier = Let(SPAN, var("row"), const(0)), loads(), Barrier(SPAN)
    assert order(barrier, start, COMMIT, Seq(SPAN, (name, load_)), barrier) == [barrier, name, load_, start, COMMIT, barrier]


def test_nothing_passes_a_wait_or_a_barrier() -> None:
    start, load_, barrier = copy(const(0)), loads(), Barrier(SPAN)
    assert order(start, COMMIT, WAIT, load_) == [start, COMMIT, WAIT, load_]
    assert order(start, barrier, load_) == [start, barrier, load_]


def test_copies_whose_address_is_loaded_stay() -> None:
    start, load_ = copy(load(COUNTS, (const(0),))), loads(COUNTS)
    assert order(start, load_) == [start, load_]


def test_names_alone_are_no_reason() -> None:
    start, name = copy(const(0)), Let(SPAN, var("row"), const(0))
    assert order(start, name) == [start, name]


def _product(depth: int) -> Any:
    @T.prim_func
    def kernel(A: T.Tensor((64, depth), "float16"), B: T.Tensor((depth, 64), "float16"), C: T.Tensor((64, 64), "float32")):
        with T.Kernel(1, threads=64):
            a, b, c = T.alloc_shared((64, 32), "float16"), T.alloc_shared((32, 64), "float16"), T.alloc_fragment((64, 64), "float32")
            T.clear(c)
            for k in T.Pipelined(depth // 32, num_stages=3):
                T.copy(A[0, k * 32], a)
                T.copy(B[k * 32, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)

    return kernel


def test_a_pipelined_product_begins_its_turn_with_loads() -> None:
    passes = GPU_PASSES[: GPU_PASSES.index(delay_copies) + 1]
    program = run_passes(_product(160).program, GpuPassContext(SM_80), passes)
    (turn,) = (s for s in statements(program.launches[0].body) if isinstance(s, For) and s.variable.name == "k" and s.kind is LoopKind.SERIAL)
    names = [s.instruction.name for s in statements(turn.body) if isinstance(s, InstructionCall)]
    assert names.index("ldmatrix.x4.float16") < names.index("mma.m16n8k16.f32.f16.f16.f32") < names.index("cp.async.cg.16")
    program = run_passes(_product(160).program, GpuPassContext(SM_80), GPU_PASSES)
    random = np.random.default_rng(0)
    a, b = (random.integers(-3, 4, shape).astype(np.float16) for shape in ((64, 160), (160, 64)))
    report = simulate(program, {"A": a, "B": b, "C": np.zeros((64, 64), np.float32)})
    assert report.is_clean, report.render()
    np.testing.assert_array_equal(report.outputs["C"], a.astype(np.float32) @ b.astype(np.float32))
