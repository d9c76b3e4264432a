"""Statements as scalar control flow, and as straight vector code inside vector loops (floor 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tilewright.codegen.llvm import registers
from tilewright.codegen.llvm.atomics import emit_atomic_update
from tilewright.codegen.llvm.emitter import Loop, Value, constant
from tilewright.codegen.llvm.expressions import Expressions
from tilewright.codegen.llvm.facts import conjuncts
from tilewright.codegen.llvm.hoist import enter_loop
from tilewright.codegen.llvm.matrix import MatrixShape, emit_matrix_multiply
from tilewright.codegen.llvm.memory import Memory
from tilewright.codegen.llvm.pack import PackShape, emit_pack
from tilewright.codegen.llvm.stream import StreamShape, emit_stream_multiply
from tilewright.codegen.llvm.task import Task, is_scalar
from tilewright.codegen.llvm.vectorize import Vectorizer, label_of
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Scope
from tilewright.ir.expr import Expr, load
from tilewright.ir.stmt import (
    Assert,
    Assume,
    AtomicUpdate,
    Break,
    Continue,
    For,
    If,
    Let,
    MatrixMultiply,
    PackPanels,
    ParallelFor,
    Prefetch,
    Print,
    ReduceLoop,
    Seq,
    Stmt,
    Store,
    StreamMultiply,
    While,
)

PRINT_SYMBOL = "tw_print"


@dataclass
class Sites:
    """The statements that talk to the host, in order of emission; code number n is entry n - 1."""

    asserts: list[Assert] = field(default_factory=list)
    prints: list[Print] = field(default_factory=list)


class Statements:
    """Emits the statements of one task."""

    def __init__(self, task: Task, memory: Memory, expressions: Expressions, sites: Sites, status: Value) -> None:
        self.task, self.memory, self.expressions = task, memory, expressions
        self.sites, self.status = sites, status
        self.vectorizer = Vectorizer(task, memory, expressions, self.emit)
        self._loops: list[tuple[str, str]] = []  # (next, end) labels
        self._handlers: dict[type[Stmt], Callable[[Any], None]] = {
            Seq: self._seq,
            For: self._for,
            While: self._while,
            If: self._if,
            Let: self._let,
            Store: self._store,
            Break: self._break,
            Continue: self._continue,
            Assume: lambda node: None,
            Prefetch: lambda node: self.memory.prefetch(load(node.buffer, node.indices)),
            Assert: self._assert,
            Print: self._print,
            MatrixMultiply: self._matrix_multiply,
            PackPanels: self._pack_panels,
            StreamMultiply: self._stream_multiply,
            AtomicUpdate: self._atomic,
            ParallelFor: self.vectorizer.parallel_for,
            ReduceLoop: self.vectorizer.reduce,
        }

    def emit(self, node: Stmt) -> None:
        handler = self._handlers.get(type(node))
        if handler is None:
            raise CompilerBug(f"{type(node).__name__} reached the code generator")
        handler(node)

    def _seq(self, node: Seq) -> None:
        for part in node.body:
            if self.task.f.is_terminated:
                return
            self.emit(part)

    # -- control flow
    def _for(self, node: For) -> None:
        task, f = self.task, self.task.f
        stop = self.expressions.scalar_index(node.extent)
        bound = self._bound_by(node.body, node.variable)
        with task.scope():
            enter_loop(self.expressions, node.body, bound, runs=node.extent.is_const and node.extent.value > 0, is_serial=True)
            accumulators = [a for a in task.facts.accumulators(node.body, bound) if a.buffer.scope is not Scope.VARIABLE and self.memory.can_take_out(a)]
            for access in accumulators:
                self.memory.take_out(access)
            with f.loop(constant(0, "i64"), stop, constant(1, "i64"), hint=label_of(node.variable)) as loop, task.scope():
                task.bind_index(node.variable, loop.index)
                self._loop_body(loop, node.body)
            for access in accumulators:
                self.memory.bring_back(access)
        task.forget(task.facts.written(node.body))

    def _bound_by(self, body: Stmt, *variables: Expr) -> frozenset[Expr]:
        return self.task.facts.bound(body) | frozenset(variables)

    def _loop_body(self, loop: Loop, body: Stmt) -> None:
        self._loops.append((loop.next_label, loop.end_label))
        self.emit(body)
        self._loops.pop()

    def _while(self, node: While) -> None:
        task, f = self.task, self.task.f
        head, body, end = (f.label(f"while.{part}.") for part in ("head", "body", "end"))
        with task.scope():
            enter_loop(self.expressions, node.body, self._bound_by(node.body), runs=False, is_serial=True)
            f.start(head)
            with task.scope():
                f.branch_if(self.expressions.scalar(node.condition), body, end)
                f.start(body)
                self._loops.append((head, end))
                self.emit(node.body)
                self._loops.pop()
                if not f.is_terminated:
                    f.branch(head)
            f.start(end)
        task.forget(task.facts.written(node.body))

    def _break(self, node: Break) -> None:
        self.task.f.branch(self._loops[-1][1])

    def _continue(self, node: Continue) -> None:
        self.task.f.branch(self._loops[-1][0])

    def _if(self, node: If) -> None:
        task, f = self.task, self.task.f
        condition = self.expressions.value(node.condition)
        assert isinstance(condition, Value)
        if condition.text in ("true", "false"):
            taken = node.then_body if condition.text == "true" else node.else_body
            if taken is not None:
                with task.scope():
                    self.emit(taken)
            return
        if not is_scalar(condition):
            with task.masked(condition), task.assuming((part, True) for part in conjuncts(node.condition)):
                self.emit(node.then_body)
            if node.else_body is not None:
                with task.masked(condition, holds=False), task.assuming([(node.condition, False)]):
                    self.emit(node.else_body)
            return
        then, end = f.label("then"), f.label("endif")
        other = end if node.else_body is None else f.label("else")
        f.branch_if(condition, then, other)
        f.start(then)
        with task.assuming((part, True) for part in conjuncts(node.condition)):
            self.emit(node.then_body)
        if node.else_body is not None:
            if not f.is_terminated:
                f.branch(end)
            f.start(other)
            with task.assuming([(node.condition, False)]):
                self.emit(node.else_body)
        f.start(end)

    # -- values
    def _let(self, node: Let) -> None:
        task = self.task
        if node.variable in task.aliases:
            return
        task.remember(task.values, node.variable, self.expressions.value(node.value))

    def _store(self, node: Store) -> None:
        target = load(node.buffer, node.indices)
        moved = self.expressions.stored(node.value, self.memory.plan(target).dtype)
        if moved is not None:
            self.memory.store_stored(target, moved)
        else:
            self.memory.store(target, self.expressions.value(node.value))
        self.task.forget((node.buffer.storage,))

    def _atomic(self, node: AtomicUpdate) -> None:
        emit_atomic_update(self.expressions, node)
        self.task.forget((node.buffer.storage,))

    def _matrix_multiply(self, node: MatrixMultiply) -> None:
        f = self.task.f
        dtype = self.memory.element_dtype(node.c)
        shape = MatrixShape(
            node.rows, node.columns, dtype, node.a_row_stride, node.a_k_stride, node.b_k_stride, node.c_row_stride, node.b_panel, node.b_panel_stride
        )
        name = emit_matrix_multiply(self.task.module, self.task.target, shape)
        addresses = []
        for buffer, offset in ((node.a, node.a_offset), (node.b, node.b_offset), (node.c, node.c_offset)):
            if self.memory.element_dtype(buffer) != dtype:
                raise CompilerBug(f"{buffer.name} is stored as {self.memory.element_dtype(buffer)!s}, the product computes in {dtype!s}")
            amount = self.expressions.scalar_index(offset)
            addresses.append(f.element_address(self.memory.base_address(buffer), registers.memory_type(dtype), amount))
        depth, is_overwriting = self.expressions.scalar_index(node.depth), self.expressions.scalar(node.is_overwriting)
        f.line(f"call void @{name}({', '.join(map(str, addresses))}, {depth}, i1 zeroext {is_overwriting.text})")
        self.task.forget((node.c.storage,))

    def _pack_panels(self, node: PackPanels) -> None:
        f = self.task.f
        dtype, source_dtype = self.memory.element_dtype(node.panels), self.memory.element_dtype(node.source)
        shape = PackShape(node.depth, node.columns, source_dtype, dtype, node.panel, node.panel, node.panel_stride, node.is_transposed)
        name = emit_pack(self.task.module, self.task.target, shape)
        source = f.element_address(self.memory.base_address(node.source), registers.memory_type(source_dtype), self.expressions.scalar_index(node.offset))
        integers = ", ".join(str(self.expressions.scalar_index(e)) for e in (node.leading_stride, node.valid_depth, node.valid_columns))
        panels = f.element_address(self.memory.base_address(node.panels), registers.memory_type(dtype), self.expressions.scalar_index(node.panels_offset))
        f.line(f"call void @{name}({source}, {panels}, {integers})")
        self.task.forget((node.panels.storage,))

    def _stream_multiply(self, node: StreamMultiply) -> None:
        f = self.task.f
        dtype, source_dtype = self.memory.element_dtype(node.c), self.memory.element_dtype(node.b)
        if self.memory.element_dtype(node.a) != dtype:
            raise CompilerBug(f"{node.a.name} is stored as {self.memory.element_dtype(node.a)!s}, the product computes in {dtype!s}")
        strides = (node.a_row_stride, node.a_k_stride, node.c_row_stride, node.c_block_stride)
        shape = StreamShape(node.rows, node.blocks, node.columns, source_dtype, dtype, *strides, node.is_transposed)
        name = emit_stream_multiply(self.task.module, self.task.target, shape)
        addresses = [
            f.element_address(self.memory.base_address(buffer), registers.memory_type(type_), self.expressions.scalar_index(offset))
            for buffer, offset, type_ in ((node.a, node.a_offset, dtype), (node.b, node.b_offset, source_dtype), (node.c, node.c_offset, dtype))
        ]
        integers = [self.expressions.scalar_index(e) for e in (node.b_stride, node.depth, node.valid_columns)]
        is_overwriting = self.expressions.scalar(node.is_overwriting)
        f.line(f"call void @{name}({', '.join(map(str, (*addresses, *integers)))}, i1 zeroext {is_overwriting.text})")
        self.task.forget((node.c.storage,))

    # -- the host
    def _assert(self, node: Assert) -> None:
        """The first failure of the launch leaves its number in the status word; the thread goes no further."""
        f = self.task.f
        condition = self.expressions.scalar(node.condition)
        self.sites.asserts.append(node)
        passed, failed = f.label("assert.passed."), f.label("assert.failed.")
        f.branch_if(condition, passed, failed)
        f.start(failed)
        f.line(f"cmpxchg ptr {self.status.text}, i32 0, i32 {len(self.sites.asserts)} monotonic monotonic")
        f.ret()
        f.start(passed)
        self.task.remember(self.task.known, node.condition, True)

    def _print(self, node: Print) -> None:
        """Calls the host with the number of the statement and its values, 8 bytes each."""
        f = self.task.f
        self.sites.prints.append(node)
        slots = f.alloca("i64", len(node.values) + 1)
        values = [registers.as_slot(self.task, self.expressions.scalar(v), v.dtype) for v in node.values]
        if node.buffer is not None:
            values.append(f.convert("ptrtoint", self.memory.base_address(node.buffer), "i64"))
        for position, value in enumerate(values):
            f.store(value, f.element_address(slots, "i64", constant(position, "i64")), 8)
        f.intrinsic(PRINT_SYMBOL, "void", constant(len(self.sites.prints), "i32"), slots)
