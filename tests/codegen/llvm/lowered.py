"""Lowered programs built by hand, run natively and by a plain interpreter of the statements."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilewright.arith.evaluate import evaluate
from tilewright.codegen.llvm.program import GeneratedModule, SlotKind, emit_program
from tilewright.dtypes import DType
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, as_expr, const, load, maximum, minimum, var
from tilewright.ir.program import Launch, Parameter, ParameterKind, Program
from tilewright.ir.stmt import (
    Assert,
    Assume,
    AtomicKind,
    AtomicUpdate,
    Break,
    Continue,
    For,
    If,
    Let,
    LoopKind,
    MatrixMultiply,
    ParallelFor,
    Prefetch,
    Print,
    ReduceKind,
    ReduceLoop,
    Seq,
    Stmt,
    Store,
    While,
)
from tilewright.ir.tileop import TilePlan
from tilewright.runtime.llvm_jit import LoadedCode, compile_object, load_object
from tilewright.runtime.pool import PARALLEL_FOR_SYMBOL, WorkerPool
from tilewright.target.cpu import CpuTarget, host_target

SPAN = Span("kernel.py", 1)


def tensor(name: str, dtype: DType, *shape: int | Expr, strides: tuple[int | Expr, ...] | None = None) -> Buffer:
    return Buffer(name, dtype, shape, Scope.GLOBAL, SPAN, strides)


def tile(name: str, dtype: DType, *shape: int, scope: Scope = Scope.SHARED) -> Buffer:
    return Buffer(name, dtype, shape, scope, SPAN)


def seq(*body: Stmt) -> Seq:
    return Seq(SPAN, body)


def store(buffer: Buffer, indices: Sequence[Any], value: Any) -> Store:
    return Store(SPAN, buffer, tuple(as_expr(i) for i in indices), as_expr(value).astype(buffer.dtype))


def at(buffer: Buffer, *indices: Any) -> Expr:
    return load(buffer, tuple(as_expr(i) for i in indices))


def parallel(extents: Sequence[int | Expr], body: Callable[..., Stmt]) -> ParallelFor:
    variables = tuple(var("ijkl"[n]) for n in range(len(extents)))
    return ParallelFor(SPAN, variables, tuple(as_expr(n) for n in extents), body(*variables))


def serial(extent: int | Expr, body: Callable[[Expr], Stmt]) -> For:
    variable = var("s")
    return For(SPAN, variable, as_expr(extent), LoopKind.SERIAL, body(variable))


def reduction(kind: ReduceKind, initial: Any, extent: int | Expr, value: Callable[[Expr], Expr], dtype: DType) -> ReduceLoop:
    axis = var("r")
    return ReduceLoop(
        SPAN, var("reduced", dtype), kind, const(initial, dtype) if not isinstance(initial, Expr) else initial, axis, as_expr(extent), value(axis).astype(dtype)
    )


def when(condition: Expr, then: Stmt, otherwise: Stmt | None = None) -> If:
    return If(SPAN, condition, then, otherwise)


def let(dtype: DType, value: Expr, body: Callable[[Expr], Stmt]) -> Seq:
    name = var("named", dtype)
    return seq(Let(SPAN, name, value.astype(dtype)), body(name))


def program(parameters: Sequence[Buffer | Expr], body: Callable[..., Stmt], grid: Sequence[int | Expr] = (1,), name: str = "kernel") -> Program:
    """One launch; the body gets the block variables. Scalars are parameters given as variables."""
    blocks = tuple(var("b" + "xyz"[n]) for n in range(len(grid)))
    threads = (var("tx"), var("ty"), var("tz"))
    launch = Launch(tuple(as_expr(n) for n in grid), blocks, (128, 1, 1), threads, (), body(*blocks), SPAN)
    made = tuple(
        Parameter(p.name, ParameterKind.TENSOR, SPAN, buffer=p) if isinstance(p, Buffer) else Parameter(p.name, ParameterKind.SCALAR, SPAN, variable=p)
        for p in parameters
    )
    return Program(name, made, (launch,), SPAN)


# -- native


@functools.cache
def pool() -> WorkerPool:
    return WorkerPool(1)


@dataclass
class Native:
    """A compiled program."""

    module: GeneratedModule
    code: LoadedCode
    printed: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def __call__(self, tensors: Mapping[str, np.ndarray], scalars: Mapping[str, Any] | None = None, symbols: Mapping[str, int] | None = None) -> int:
        """Runs on the arrays' memory; gives the status."""
        status = np.zeros(1, np.int32)
        slots = np.zeros(len(self.module.slots), np.uint64)
        for number, slot in enumerate(self.module.slots):
            match slot.kind:
                case SlotKind.TENSOR:
                    slots[number] = tensors[slot.parameter.name].ctypes.data
                case SlotKind.WORKSPACE:
                    slots[number] = tensors[slot.workspace.name].ctypes.data
                case SlotKind.SCALAR | SlotKind.POINTER:
                    slots[number] = _slot_bits((scalars or {})[slot.parameter.name], slot.parameter.variable.dtype)
                case SlotKind.SYMBOL:
                    slots[number] = (symbols or {})[slot.symbol.name]
                case SlotKind.STATUS:
                    slots[number] = status.ctypes.data
        return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(self.code.entry_address)(slots.ctypes.data)


def _slot_bits(value: Any, dtype: DType) -> int:
    if dtype.is_float:
        kind = np.float64 if dtype.bits == 64 else np.float32
        return int(np.array(value, kind).view(np.uint64 if dtype.bits == 64 else np.uint32))
    return int(value) & ((1 << 64) - 1)


def native(made: Program, plans: Mapping[Buffer, TilePlan] | None = None, target: CpuTarget | None = None) -> Native:
    target = target or host_target()
    module = emit_program(made, plans or {}, target)
    result = Native(module, None)  # type: ignore[arg-type]
    symbols = {PARALLEL_FOR_SYMBOL: pool().parallel_for_address}
    if module.prints:
        counts = [len(p.values) + (p.buffer is not None) for p in module.prints]
        callback = ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.POINTER(ctypes.c_int64))(
            lambda number, values: result.printed.append((number, tuple(values[n] for n in range(counts[number - 1]))))
        )
        result.callback = callback  # type: ignore[attr-defined]
        symbols["tw_print"] = ctypes.cast(callback, ctypes.c_void_p).value
    result.code = load_object(compile_object(module.text, target), module.entry_name, symbols)
    return result


# -- the oracle


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


_COMBINE = {
    ReduceKind.SUM: lambda a, b: a + b,
    ReduceKind.MAX: maximum,
    ReduceKind.MIN: minimum,
    ReduceKind.BIT_AND: lambda a, b: a & b,
    ReduceKind.BIT_OR: lambda a, b: a | b,
    ReduceKind.BIT_XOR: lambda a, b: a ^ b,
}
_ATOMIC = {
    AtomicKind.ADD: lambda a, b: a + b,
    AtomicKind.MAX: maximum,
    AtomicKind.MIN: minimum,
    AtomicKind.AND: lambda a, b: a & b,
    AtomicKind.OR: lambda a, b: a | b,
    AtomicKind.XOR: lambda a, b: a ^ b,
    AtomicKind.EXCHANGE: lambda a, b: b,
    AtomicKind.LOAD: lambda a, b: a,
}


class Interpreter:
    """Runs a lowered program statement by statement on copies of the arrays. Elements outside a buffer raise IndexError."""

    def __init__(
        self, made: Program, tensors: Mapping[str, np.ndarray], scalars: Mapping[str, Any] | None = None, symbols: Mapping[str, int] | None = None
    ) -> None:
        self.values: dict[Expr, Any] = {}
        self.memory: dict[Buffer, np.ndarray] = {}
        self.status = 0
        self.asserts: list[Assert] = []
        for parameter in made.parameters:
            if parameter.buffer is not None:
                self.memory[parameter.buffer] = tensors[parameter.name]
                for extent in (*parameter.buffer.shape, *(parameter.buffer.given_strides or ())):
                    if isinstance(extent, Expr) and extent.name in (symbols or {}):
                        self.values[extent] = symbols[extent.name]  # type: ignore[index]
            else:
                self.values[parameter.variable] = parameter.variable.dtype.numpy.type((scalars or {})[parameter.name])
        for workspace in made.workspaces:
            self.memory[workspace] = tensors[workspace.name]
        for launch in made.launches:
            extents = [int(self.value(n)) for n in launch.grid]
            for block in np.ndindex(*extents[::-1]):
                for variable, position in zip(launch.block_variables, block[::-1], strict=True):
                    self.values[variable] = np.int32(position)
                self.run(launch.body)

    def value(self, node: Expr) -> Any:
        return evaluate(node, self.values, self.load)[()]

    def load(self, buffer: Buffer, indices: tuple[np.ndarray, ...], mask: np.ndarray) -> np.ndarray:
        return np.asarray(self.array(buffer)[self.position(buffer, [int(i) for i in indices])])

    def array(self, buffer: Buffer) -> np.ndarray:
        if buffer not in self.memory:
            if buffer.source is not None:
                return self.array(buffer.source).reshape(-1).view(buffer.dtype.numpy).reshape(buffer.shape)
            self.memory[buffer] = np.zeros(buffer.shape, buffer.dtype.numpy)
        return self.memory[buffer]

    def position(self, buffer: Buffer, indices: list[int]) -> tuple[int, ...]:
        for index, extent in zip(indices, self.array(buffer).shape, strict=True):
            if not 0 <= index < extent:
                raise IndexError(f"{buffer.name}{indices}")
        return tuple(indices)

    def run(self, node: Stmt) -> None:
        match node:
            case Seq():
                for part in node.body:
                    self.run(part)
            case For():
                for turn in range(int(self.value(node.extent))):
                    self.values[node.variable] = np.int32(turn)
                    try:
                        self.run(node.body)
                    except _Continue:
                        pass
                    except _Break:
                        break
            case While():
                while self.value(node.condition):
                    try:
                        self.run(node.body)
                    except _Continue:
                        pass
                    except _Break:
                        break
            case ParallelFor():
                for turns in np.ndindex(*(int(self.value(n)) for n in node.extents)):
                    for variable, turn in zip(node.variables, turns, strict=True):
                        self.values[variable] = np.int32(turn)
                    self.run(node.body)
            case If():
                if self.value(node.condition):
                    self.run(node.then_body)
                elif node.else_body is not None:
                    self.run(node.else_body)
            case Break():
                raise _Break
            case Continue():
                raise _Continue
            case Let():
                self.values[node.variable] = self.value(node.value)
            case Store():
                value = self.value(node.value)
                self.array(node.buffer)[self.position(node.buffer, [int(self.value(i)) for i in node.indices])] = value
            case ReduceLoop():
                self.values[node.result] = self.value(node.initial)
                for turn in range(int(self.value(node.extent))):
                    self.values[node.axis] = np.int32(turn)
                    if node.body is not None:
                        self.run(node.body)
                    self.values[node.result] = self.value(_COMBINE[node.kind](node.result, node.value))
            case AtomicUpdate():
                position = self.position(node.buffer, [int(self.value(i)) for i in node.indices])
                previous = var("previous", node.buffer.dtype)
                self.values[previous] = self.array(node.buffer)[position]
                self.array(node.buffer)[position] = self.value(_ATOMIC[node.kind](previous, node.value))
                if node.previous is not None:
                    self.values[node.previous] = self.values[previous]
            case Assume() | Prefetch() | Print():
                pass
            case Assert():
                if not self.value(node.condition) and not self.status:
                    self.status = 1
            case MatrixMultiply():
                self.multiply(node)
            case _:
                raise TypeError(type(node))

    def multiply(self, node: MatrixMultiply) -> None:
        depth = int(self.value(node.depth))
        a, b, c = (self.array(x).reshape(-1) for x in (node.a, node.b, node.c))
        a0, b0, c0 = (int(self.value(x)) for x in (node.a_offset, node.b_offset, node.c_offset))
        for m in range(node.rows):
            for n in range(node.columns):
                b_column = n if not node.b_panel else n // node.b_panel * node.b_panel_stride + n % node.b_panel
                total = sum(a[a0 + m * node.a_row_stride + k * node.a_k_stride] * b[b0 + b_column + k * node.b_k_stride] for k in range(depth))
                at_c = c0 + m * node.c_row_stride + n
                c[at_c] = total if self.value(node.is_overwriting) else c[at_c] + total


def check(
    made: Program,
    tensors: Mapping[str, np.ndarray],
    scalars: Mapping[str, Any] | None = None,
    symbols: Mapping[str, int] | None = None,
    *,
    plans: Mapping[Buffer, TilePlan] | None = None,
    target: CpuTarget | None = None,
    tolerance: float = 0.0,
) -> Native:
    """Runs both ways on equal inputs and compares every array; exactly, or to a relative tolerance where sums may be reordered."""
    expected = {name: array.copy() for name, array in tensors.items()}
    actual = {name: array.copy() for name, array in tensors.items()}
    oracle = Interpreter(made, expected, scalars, symbols)
    code = native(made, plans, target)
    status = code(actual, scalars, symbols)
    assert (status != 0) == (oracle.status != 0)
    for name in tensors:
        if tolerance:
            np.testing.assert_allclose(actual[name].astype(np.float64), expected[name].astype(np.float64), rtol=tolerance, atol=tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
    return code
