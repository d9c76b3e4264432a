"""Thread-level programs built by hand. Every statement has a line of its own, so that findings can be told apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, as_expr, cast, load, var
from tilewright.ir.instruction import Instruction
from tilewright.ir.program import Launch, Parameter, ParameterKind, Program
from tilewright.ir.stmt import Barrier, BarrierScope, For, If, Let, LoopKind, Seq, Stmt, Store
from tilewright.ir.thread import Address, InstructionCall, Registers, VectorCopy
from tilewright.ir.verify import Level, verify

_lines = itertools.count(1)
F16, F32, I32, U32 = dtypes.float16, dtypes.float32, dtypes.int32, dtypes.uint32


def here() -> Span:
    return Span("kernel.py", next(_lines))


def buffer(name: str, shape: Any, dtype: DType = F32, scope: Scope = Scope.GLOBAL, **kwargs: Any) -> Buffer:
    return Buffer(name, dtype, tuple(shape) if isinstance(shape, (tuple, list)) else (shape,), scope, here(), **kwargs)


def shared(name: str, count: int, dtype: DType = F32, **kwargs: Any) -> Buffer:
    return buffer(name, count, dtype, Scope.SHARED, **kwargs)


def local(name: str, count: int, dtype: DType = F32, **kwargs: Any) -> Buffer:
    return buffer(name, count, dtype, Scope.LOCAL, **kwargs)


def indices(where: Any) -> tuple[Expr, ...]:
    return tuple(as_expr(i) for i in (where if isinstance(where, tuple) else (where,)))


def at(source: Buffer, *where: Any) -> Expr:
    return load(source, indices(where))


def put(target: Buffer, where: Any, value: Any) -> Store:
    return Store(here(), target, indices(where), cast(as_expr(value), target.dtype))


def seq(*body: Stmt) -> Seq:
    return Seq(here(), body)


def loop(variable: Expr, extent: Any, *body: Stmt) -> For:
    return For(here(), variable, as_expr(extent), LoopKind.SERIAL, seq(*body))


def when(condition: Expr, *body: Stmt, otherwise: Stmt | None = None) -> If:
    return If(here(), condition, seq(*body), otherwise)


def let(variable: Expr, value: Any) -> Let:
    return Let(here(), variable, cast(as_expr(value), variable.dtype))


def sync(barrier_id: int = 0, num_threads: int | None = None) -> Barrier:
    return Barrier(here(), BarrierScope.BLOCK, barrier_id, num_threads)


def warp_sync() -> Barrier:
    return Barrier(here(), BarrierScope.WARP)


def copy(dst: Buffer, dst_at: Any, src: Buffer, src_at: Any, elements: int) -> VectorCopy:
    return VectorCopy(here(), Address(dst, indices(dst_at)), Address(src, indices(src_at)), elements)


def call(instruction: Instruction, *operands: Any) -> InstructionCall:
    made = []
    for operand in operands:
        match operand:
            case (Buffer() as b, where) if b.scope is Scope.LOCAL:
                made.append(Registers(b, as_expr(where)))
            case (Buffer() as b, where):
                made.append(Address(b, indices(where)))
            case _:
                made.append(operand)
    return InstructionCall(here(), instruction, tuple(made))


class Threads:
    """A program under construction: `tx`, `ty`, `tz`, `bx`, `by` and `program(...)`."""

    def __init__(self, threads: int | tuple[int, int, int] = 128, grid: Sequence[Any] = (1,)) -> None:
        self.threads = threads if isinstance(threads, tuple) else (threads, 1, 1)
        self.grid = tuple(as_expr(n) for n in grid)
        self.tx, self.ty, self.tz = (var(n) for n in ("tx", "ty", "tz"))
        self.blocks = tuple(var(n) for n in ("bx", "by", "bz")[: len(grid)])
        self.bx = self.blocks[0]

    def program(self, parameters: Sequence[Any], *body: Stmt, buffers: Sequence[Buffer] = (), outputs: Sequence[Buffer] = (), **kwargs: Any) -> Program:
        made = []
        for p in parameters:
            if isinstance(p, Buffer):
                made.append(Parameter(p.name, ParameterKind.TENSOR, here(), buffer=p, is_output=any(p is o for o in outputs)))
            else:
                made.append(Parameter(p.name, ParameterKind.SCALAR, here(), variable=p))
        launch = Launch(self.grid, self.blocks, self.threads, (self.tx, self.ty, self.tz), tuple(buffers), seq(*body), here(), **kwargs)
        program = Program("kernel", tuple(made), (launch,), here())
        verify(program, Level.THREAD, "the test")
        return program
