"""Small thread-level programs for the tests of the CUDA printer."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.dtypes import DType
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Extent, Scope
from tilewright.ir.expr import Expr, as_expr, load, var
from tilewright.ir.program import Launch, Parameter, ParameterKind, Program, SharedMemoryPlan
from tilewright.ir.stmt import Seq, Stmt, Store
from tilewright.ir.verify import Level, verify

SPAN = Span("kernel.py", 7, 4, 7, 20)
BLOCK, THREAD = var("bx"), var("tx")


def tensor(name: str, dtype: DType, *shape: Extent) -> Buffer:
    return Buffer(name, dtype, shape, Scope.GLOBAL, SPAN)


def local(name: str, dtype: DType, count: int, source: Buffer | None = None) -> Buffer:
    return Buffer(name, dtype, (count,), Scope.LOCAL, SPAN, source=source)


def shared(name: str, dtype: DType, count: int, source: Buffer | None = None) -> Buffer:
    return Buffer(name, dtype, (count,), Scope.SHARED, SPAN, source=source)


def variable(name: str, dtype: DType) -> Buffer:
    return Buffer(name, dtype, (1,), Scope.VARIABLE, SPAN)


def seq(*body: Stmt) -> Seq:
    return Seq(SPAN, body)


def store(buffer: Buffer, index: Expr | int | tuple[Expr | int, ...], value: Expr | float) -> Store:
    indices = index if isinstance(index, tuple) else (index,)
    return Store(SPAN, buffer, tuple(as_expr(i) for i in indices), as_expr(value, buffer.dtype))


def at(buffer: Buffer, *indices: Expr | int) -> Expr:
    return load(buffer, tuple(as_expr(i) for i in indices))


def program(
    parameters: Sequence[Buffer | Expr],
    body: Stmt,
    *,
    threads: int | tuple[int, int, int] = 1,
    grid: tuple[Expr | int, ...] = (1,),
    buffers: Sequence[Buffer] = (),
    name: str = "kernel",
) -> Program:
    """One launch whose block variable is BLOCK and whose thread variable is THREAD; shared buffers lie one behind the other."""
    offsets, size_bytes = [], 0
    for buffer in buffers:
        if buffer.scope is Scope.SHARED and buffer.source is None:
            offsets.append((buffer, size_bytes))
            size_bytes += -(-buffer.static_shape[0] * buffer.dtype.bits // 8 // 16) * 16
    extents = tuple(as_expr(n) for n in grid)
    blocks = (BLOCK, var("by"), var("bz"))[: len(extents)]
    block = threads if isinstance(threads, tuple) else (threads, 1, 1)
    plan = SharedMemoryPlan(tuple(offsets), size_bytes) if offsets else None
    launch = Launch(extents, blocks, block, (THREAD, var("ty"), var("tz")), tuple(buffers), body, SPAN, shared_memory=plan)
    given = tuple(
        Parameter(p.name, ParameterKind.TENSOR, SPAN, buffer=p) if isinstance(p, Buffer) else Parameter(p.name, ParameterKind.SCALAR, SPAN, variable=p)
        for p in parameters
    )
    made = Program(name, given, (launch,), SPAN)
    verify(made, Level.THREAD, "the test")
    return made
