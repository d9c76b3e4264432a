"""Checks that a program keeps the rules of the IR (floor 2). A broken rule is the compiler's fault: the message names the pass that broke it.

At both levels: names are bound before they are used and only where they are visible, buffers are known to the launch, indices are integers and as many
as the rank, values have the dtype of what they are stored to, conditions are bools, and loop control stands in a loop. A TILE program holds what a user
can write and the tile operations; a LOWERED one holds loops, scalar statements and products, and no tile operation; a THREAD one is what each thread of a
GPU's block runs: no parallel loops, no fragments, shared and local buffers of one axis.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from tilewright.dtypes import int32, uint32
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import (
    Assert,
    Assume,
    AtomicUpdate,
    BlockReduce,
    Break,
    Continue,
    For,
    If,
    Let,
    MatrixMultiply,
    PackPanels,
    ParallelFor,
    ReduceLoop,
    Seq,
    Stmt,
    Store,
    StreamMultiply,
    WarpExchange,
    WarpExchangeKind,
    While,
)
from tilewright.ir.thread import Address, AsyncRegion, InstructionCall, Registers, VectorCopy
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import names_made, own_expressions, statements, subexpressions


class Level(Enum):
    """How far a program has been lowered."""

    TILE = "tile"
    LOWERED = "lowered"
    THREAD = "thread"


_ONLY_LOWERED = (MatrixMultiply, PackPanels, StreamMultiply)
_ONLY_THREAD = (AsyncRegion, InstructionCall, VectorCopy)
_NEVER_THREAD = (*_ONLY_LOWERED, ParallelFor, ReduceLoop)
_SHUFFLES = (WarpExchangeKind.SHUFFLE, WarpExchangeKind.SHUFFLE_UP, WarpExchangeKind.SHUFFLE_DOWN, WarpExchangeKind.SHUFFLE_XOR)
_VOTES = (WarpExchangeKind.ANY, WarpExchangeKind.ALL, WarpExchangeKind.BALLOT, WarpExchangeKind.ACTIVE_MASK)
_EXCHANGE_RESULTS = {
    WarpExchangeKind.ANY: int32,
    WarpExchangeKind.ALL: int32,
    WarpExchangeKind.BALLOT: uint32,
    WarpExchangeKind.ACTIVE_MASK: uint32,
    WarpExchangeKind.MATCH_ANY: uint32,
    WarpExchangeKind.MATCH_ALL: uint32,
}


def verify(program: Program, level: Level, after: str) -> None:
    """Raises CompilerBug, naming `after` (the pass that ran last) and the statement, where a rule of the level is broken."""
    globals_ = {p.buffer for p in program.parameters if p.buffer is not None} | set(program.workspaces)
    names = {p.variable for p in program.parameters if p.variable is not None}
    for buffer in globals_:
        for extent in (*buffer.shape, *(buffer.given_strides or ())):
            if isinstance(extent, Expr):
                names |= {n for n in subexpressions(extent) if n.op is Op.VAR}
    for launch in program.launches:
        _Verifier(launch, level, after, globals_).launch(names)


class _Verifier:
    def __init__(self, launch: Launch, level: Level, after: str, globals_: set[Buffer]) -> None:
        self.owner, self.level, self.after = launch, level, after
        self.buffers = globals_ | set(launch.buffers)

    def launch(self, names: set[Expr]) -> None:
        launch = self.owner
        if len(launch.grid) != len(launch.block_variables):
            self.fail(launch.body, f"{len(launch.grid)} grid extents have {len(launch.block_variables)} variables")
        for extent in launch.grid:
            self.expression(launch.body, extent, names)
        self.stmt(launch.body, names | set(launch.block_variables) | set(launch.thread_variables), has_loop=False)

    def fail(self, stmt: Stmt, rule: str) -> None:
        raise CompilerBug(f"after {self.after}: {rule} ({type(stmt).__name__} at {stmt.span})")

    # -- statements
    def stmt(self, node: Stmt, names: set[Expr], *, has_loop: bool) -> None:
        if isinstance(node, TileOp) and self.level is not Level.TILE:
            self.fail(node, "a tile operation is left")
        if isinstance(node, _ONLY_LOWERED) and self.level is Level.TILE:
            self.fail(node, "a lowered statement stands in a tile program")
        if isinstance(node, _ONLY_THREAD) and self.level is not Level.THREAD:
            self.fail(node, "a thread-level statement stands in a program that is not lowered to threads")
        if isinstance(node, _NEVER_THREAD) and self.level is Level.THREAD:
            self.fail(node, "a statement that no thread can run is left")
        self.own_parts(node, names)
        match node:
            case Seq():
                visible = set(names)
                for inner in node.body:
                    self.stmt(inner, visible, has_loop=has_loop)
                    visible.update(names_made(inner))
            case For():
                self.integer(node, node.extent, "a loop extent")
                self.stmt(node.body, names | {self.fresh(node, node.variable)}, has_loop=True)
            case ParallelFor():
                if len(node.variables) != len(node.extents):
                    self.fail(node, f"{len(node.extents)} extents have {len(node.variables)} variables")
                for extent in node.extents:
                    self.integer(node, extent, "a loop extent")
                self.stmt(node.body, names | {self.fresh(node, v) for v in node.variables}, has_loop=False)
            case If():
                self.condition(node, node.condition)
                self.stmt(node.then_body, set(names), has_loop=has_loop)
                if node.else_body is not None:
                    self.stmt(node.else_body, set(names), has_loop=has_loop)
            case While():
                self.condition(node, node.condition)
                self.stmt(node.body, set(names), has_loop=True)
            case AsyncRegion():
                self.stmt(node.body, set(names), has_loop=has_loop)
            case Break() | Continue():
                if not has_loop:
                    self.fail(node, "loop control stands outside a loop")
            case Assert() | Assume():
                self.condition(node, node.condition)
            case Store() | AtomicUpdate():
                self.access(node, node.buffer, node.indices)
                if node.value.dtype != node.buffer.dtype:
                    self.fail(node, f"{node.value.dtype!s} is stored to {node.buffer.name}, which is {node.buffer.dtype!s}")
            case WarpExchange():
                self.exchange(node)
            case Let():
                if node.variable.dtype != node.value.dtype:
                    self.fail(node, f"{node.variable.name} is {node.variable.dtype!s}, its value {node.value.dtype!s}")
            case BlockReduce():
                if node.result.dtype != node.value.dtype:
                    self.fail(node, f"{node.result.name} is {node.result.dtype!s}, combined from {node.value.dtype!s}")
                if not set(node.axes) <= {0, 1, 2}:
                    self.fail(node, f"threads have no axes {node.axes}")
            case ReduceLoop():
                if not node.result.dtype == node.initial.dtype == node.value.dtype:
                    self.fail(node, f"{node.result.name} is {node.result.dtype!s}, combined from {node.initial.dtype!s} and {node.value.dtype!s}")
                if node.body is not None:
                    self.stmt(node.body, names | {node.axis}, has_loop=False)

    def exchange(self, node: WarpExchange) -> None:
        expected = _EXCHANGE_RESULTS.get(node.kind, node.value.dtype)
        if node.result.dtype != expected:
            self.fail(node, f"{node.result.name} is {node.result.dtype!s}, but this exchange gives {expected!s}")
        if node.kind in _VOTES and not node.value.dtype.is_bool:
            self.fail(node, f"a vote on `{node.value}`, which is {node.value.dtype!s}")
        if (node.operand is not None) != (node.kind in _SHUFFLES):
            self.fail(node, f"{node.kind.value} {'takes no' if node.operand is not None else 'needs a'} lane")
        if node.operand is not None:
            self.integer(node, node.operand, "a lane")
        if node.width not in (1, 2, 4, 8, 16, 32):
            self.fail(node, f"the width {node.width} is no power of two up to 32")

    def own_parts(self, node: Stmt, names: set[Expr]) -> None:
        inner = names | {node.axis} if isinstance(node, ReduceLoop) else names
        if isinstance(node, ReduceLoop) and node.body is not None:
            inner |= {name for part in statements(node.body) for name in names_made(part)}
        inner = inner | set(names_made(node)) | set(getattr(node, "variables", ())) | ({node.variable} if isinstance(node, For) else set())
        for expression in own_expressions(node):
            self.expression(node, expression, inner)
        for value in vars(node).values():
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Buffer):
                    self.known(node, item)
                elif isinstance(item, Address):
                    self.access(node, item.buffer, item.indices)
                elif isinstance(item, Registers):
                    self.access(node, item.buffer, (item.offset,))
                elif isinstance(item, Region):
                    self.known(node, item.buffer)
                    if not len(item.starts) == len(item.extents) == len(item.is_slice) == item.buffer.rank:
                        self.fail(node, f"a region of {item.buffer.name} has {len(item.starts)} starts for {item.buffer.rank} dimensions")

    def fresh(self, node: Stmt, variable: Expr) -> Expr:
        if variable.op is not Op.VAR:
            self.fail(node, f"`{variable}` is bound, but is no variable")
        return variable

    # -- expressions
    def expression(self, node: Stmt, root: Expr, names: Iterable[Expr]) -> None:
        visible = names if isinstance(names, set) else set(names)
        for part in subexpressions(root):
            if part.op is Op.VAR and part not in visible:
                self.fail(node, f"`{part.name}` is used where it is not bound")
            elif part.op is Op.LOAD:
                self.access(node, part.buffer, part.args)
            elif part.op in (Op.SELECT, Op.IF_THEN_ELSE) and not part.args[0].dtype.is_bool:
                self.fail(node, f"the condition `{part.args[0]}` of a selection is {part.args[0].dtype!s}")

    def known(self, node: Stmt, buffer: Buffer) -> None:
        storage = buffer.storage
        if storage.pointer is None and storage not in self.buffers:
            self.fail(node, f"the {storage.scope.value} buffer {storage.name} does not belong to the launch")

    def access(self, node: Stmt, buffer: Buffer, indices: tuple[Expr, ...]) -> None:
        self.known(node, buffer)
        if len(indices) != buffer.rank:
            self.fail(node, f"{buffer.name} has {buffer.rank} dimensions and is indexed with {len(indices)}")
        for index in indices:
            self.integer(node, index, f"an index of {buffer.name}")
        if self.level is Level.THREAD and (buffer.scope is Scope.FRAGMENT or (buffer.scope is not Scope.GLOBAL and buffer.rank != 1)):
            self.fail(node, f"the {buffer.scope.value} buffer {buffer.name} has {buffer.rank} axes in a program for threads")
        if buffer.scope is Scope.BARRIER:
            self.fail(node, f"the barrier {buffer.name} is accessed as memory")

    def integer(self, node: Stmt, expression: Expr, what: str) -> None:
        if not expression.dtype.is_integer:
            self.fail(node, f"{what} is `{expression}`, which is {expression.dtype!s}")

    def condition(self, node: Stmt, expression: Expr) -> None:
        if not expression.dtype.is_bool:
            self.fail(node, f"the condition `{expression}` is {expression.dtype!s}")
