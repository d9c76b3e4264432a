"""Statements of thread-level programs: printed, rewritten and verified like all others."""

from __future__ import annotations

import pytest

from tilewright import dtypes
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import const, var
from tilewright.ir.instruction import Access, AddressOperand, ImmediateOperand, Instruction, InstructionScope, RegisterOperand
from tilewright.ir.printer import print_stmt
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import ParallelFor, Seq, Stmt
from tilewright.ir.thread import Address, InstructionCall, Registers, VectorCopy
from tilewright.ir.verify import Level, verify
from tilewright.ir.visit import own_expressions, substitute

SPAN = Span("kernel.py", 3, 0, 3, 1)
SHARED = Buffer("tile", dtypes.float16, (256,), Scope.SHARED, SPAN)
LOCAL = Buffer("values", dtypes.float16, (8,), Scope.LOCAL, SPAN)
THREAD = var("tx")


class _Load(Instruction):
    name = "load.x4"
    scope = InstructionScope.WARP
    feature = None
    operands = (RegisterOperand("d", dtypes.float16, 8, Access.WRITE), AddressOperand("row", Scope.SHARED, 16, Access.READ), ImmediateOperand("hint"))


def _program(body: Stmt) -> Program:
    y, z = var("ty"), var("tz")
    launch = Launch((const(1),), (var("bx"),), (32, 1, 1), (THREAD, y, z), (SHARED, LOCAL), body, SPAN)
    return Program("kernel", (), (launch,), SPAN)


def _call() -> InstructionCall:
    return InstructionCall(SPAN, _Load(), (Registers(LOCAL, const(0)), Address(SHARED, (THREAD * 8,)), 1))


def test_statements_print() -> None:
    copy = VectorCopy(SPAN, Address(LOCAL, (const(0),)), Address(SHARED, (THREAD * 8,)), 8)
    assert print_stmt(copy).startswith("values[0] = vector<8>(tile[tx * 8])")
    assert print_stmt(_call()).startswith("load.x4(values[0:], tile[tx * 8], 1)")
    assert copy.size_bytes == 16


def test_expressions_inside_operands_are_visited_and_rewritten() -> None:
    call = _call()
    assert any(e is THREAD * 8 for e in own_expressions(call))
    renamed = substitute(call, {THREAD: var("lane")})
    assert print_stmt(renamed).startswith("load.x4(values[0:], tile[lane * 8], 1)")
    assert substitute(call, {var("other"): const(1)}) is call


def test_registers_count_machine_registers() -> None:
    half, double = RegisterOperand("a", dtypes.float16, 8, Access.READ), RegisterOperand("c", dtypes.float64, 2, Access.READ_WRITE)
    assert (half.num_registers, double.num_registers) == (4, 2)


def test_the_verifier_knows_the_thread_level() -> None:
    verify(_program(Seq(SPAN, (_call(),))), Level.THREAD, "lowering")
    with pytest.raises(CompilerBug, match="not lowered to threads"):
        verify(_program(_call()), Level.LOWERED, "lowering")
    loop = ParallelFor(SPAN, (var("i"),), (const(4),), Seq(SPAN, ()))
    with pytest.raises(CompilerBug, match="no thread can run"):
        verify(_program(loop), Level.THREAD, "lowering")


def test_the_verifier_checks_buffers_of_operands() -> None:
    stranger = Buffer("stranger", dtypes.float16, (8,), Scope.LOCAL, SPAN)
    with pytest.raises(CompilerBug, match="stranger"):
        verify(_program(InstructionCall(SPAN, _Load(), (Registers(stranger, const(0)), Address(SHARED, (THREAD,)), 1))), Level.THREAD, "lowering")
