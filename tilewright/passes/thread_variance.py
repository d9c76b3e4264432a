"""Which values differ between the threads of a block (floor 5).

Thread-level code runs on every thread. What does not depend on the thread is one value for the block at any time, because threads that take the same
path see memory in the same state: barriers stand wherever that needs one (`insert_barriers`).
"""

from __future__ import annotations

import numpy as np

from tilewright.arith.evaluate import evaluate
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.instruction import Access
from tilewright.ir.program import Launch
from tilewright.ir.stmt import (
    WARP_THREADS,
    AtomicUpdate,
    BlockReduce,
    Break,
    Continue,
    For,
    If,
    Let,
    ParallelFor,
    ReduceLoop,
    Seq,
    Stmt,
    Store,
    WarpExchange,
    WarpExchangeKind,
    While,
)
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import names_made, own_expressions, subexpressions
from tilewright.ops.gemm import Gemm

PRIVATE = (Scope.LOCAL, Scope.VARIABLE)


def is_private(buffer: Buffer) -> bool:
    """Whether every thread has a copy of its own."""
    return buffer.storage.scope in PRIVATE


def is_thread_operation(stmt: Stmt) -> bool:
    """Whether a tile operation is done by each thread alone, because it works on its own memory; all others are done by the block together."""
    if not isinstance(stmt, TileOp) or isinstance(stmt, Gemm):
        return False
    effects = stmt.effects()
    return any(is_private(r.buffer) for r in (*effects.reads, *effects.writes))


def is_cooperative(stmt: Stmt) -> bool:
    """Whether the threads of a block do a statement together, each a part of it."""
    return isinstance(stmt, ParallelFor) or (isinstance(stmt, TileOp) and not is_thread_operation(stmt))


class Variance:
    """What differs between the threads of one launch, whatever the order of its statements: `variables`, and the contents of private `buffers`."""

    def __init__(self, launch: Launch) -> None:
        self.axes = frozenset(k for k, n in enumerate(launch.threads) if n > 1)
        self.variables: set[Expr] = {launch.thread_variables[k] for k in self.axes}
        self.buffers: set[Buffer] = set()
        self.split_names: set[Expr] = set()  # made where only some threads may come
        self._split_loops: set[Stmt] = set()  # threads leave them at different turns
        self._loops: list[Stmt] = []
        size = -1
        while size != (size := self._size()):
            self._walk(launch.body, is_split=False)

    def _size(self) -> int:
        return len(self.variables) + len(self.buffers) + len(self._split_loops) + len(self.split_names)

    def is_varying(self, expression: Expr) -> bool:
        """Whether threads may see different values."""
        for node in subexpressions(expression):
            if node.op is Op.VAR:
                if node in self.variables:
                    return True
            elif node.op is Op.LOAD:
                if node.buffer.storage in self.buffers:
                    return True
            elif node.op is Op.CALL and not node.attribute.is_pure:
                return True
        return False

    def is_known_everywhere(self, expression: Expr) -> bool:
        """Whether every thread of the block could evaluate an expression, though it may stand where only some come."""
        return not any(
            node in self.split_names or (node.op is Op.LOAD and not is_private(node.buffer) and node.buffer.storage.scope is not Scope.GLOBAL)
            for node in subexpressions(expression)
        )

    def splits(self, stmt: Stmt) -> bool:
        """Whether the threads of a block may take different ways at an If or a loop."""
        match stmt:
            case If() | While():
                return self.is_varying(stmt.condition) or stmt in self._split_loops
            case For():
                return self.is_varying(stmt.extent) or stmt in self._split_loops
        return False

    def _receives_varying(self, stmt: WarpExchange) -> bool:
        """Whether threads may receive different results."""
        return True

    def _note(self, variable: Expr | None, is_varying: bool) -> None:
        if variable is not None and is_varying:
            self.variables.add(variable)

    def _walk(self, stmt: Stmt, is_split: bool) -> None:
        if is_split:
            self.split_names.update((*names_made(stmt), stmt.variable) if isinstance(stmt, For) else names_made(stmt))
        match stmt:
            case Seq():
                for inner in stmt.body:
                    self._walk(inner, is_split)
            case If():
                inside = is_split or self.splits(stmt)
                self._walk(stmt.then_body, inside)
                if stmt.else_body is not None:
                    self._walk(stmt.else_body, inside)
            case For() | While():
                self._loops.append(stmt)
                self._walk(stmt.body, is_split or self.splits(stmt))
                self._loops.pop()
            case Break() | Continue():
                if is_split and self._loops:
                    self._split_loops.add(self._loops[-1])
            case ParallelFor():
                self._walk(stmt.body, True)  # what an iteration leaves in its own memory is nobody's afterwards
            case Let():
                self._note(stmt.variable, self.is_varying(stmt.value))
            case ReduceLoop():
                self._note(stmt.result, any(map(self.is_varying, own_expressions(stmt))))
            case WarpExchange():
                self._note(stmt.result, self._receives_varying(stmt))
            case BlockReduce():
                self._note(stmt.result, not self.axes <= set(stmt.axes))
            case AtomicUpdate():
                self._note(stmt.previous, is_varying=True)
            case ForeignCall():
                self._note(stmt.result, is_varying=True)
                self.buffers |= {a.buffer.storage for a, r in stmt.addresses() if r.access is not Access.READ and is_private(a.buffer)}
            case Store():
                if is_private(stmt.buffer) and (is_split or any(map(self.is_varying, own_expressions(stmt)))):
                    self.buffers.add(stmt.buffer.storage)
            case TileOp():
                effects = stmt.effects()
                is_varying = is_split or any(map(self.is_varying, own_expressions(stmt))) or any(r.buffer.storage in self.buffers for r in effects.reads)
                if is_varying:
                    self.buffers.update(r.buffer.storage for r in effects.writes if is_private(r.buffer))


class WarpVariance(Variance):
    """What differs between the threads of one warp."""

    def __init__(self, launch: Launch) -> None:
        shape = tuple(reversed(launch.threads))
        grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
        self._threads = {v: g.reshape(-1) for v, g in zip(reversed(launch.thread_variables), grid, strict=True)}
        self._known: dict[Expr, bool] = {}
        super().__init__(launch)

    def is_varying(self, expression: Expr) -> bool:
        """Of an expression of thread variables and numbers all warps are looked at."""
        if super().is_varying(expression) and not self._is_same_in_warps(expression):
            inner = expression.args
            if expression.op in (Op.VAR, Op.LOAD) or not inner:
                return expression.op is not Op.LOAD or expression.buffer.storage in self.buffers or any(map(self.is_varying, inner))
            return (expression.op is Op.CALL and not expression.attribute.is_pure) or any(map(self.is_varying, inner))
        return False

    def _is_same_in_warps(self, expression: Expr) -> bool:
        found = self._known.get(expression)
        if found is None:
            nodes = list(subexpressions(expression))
            found = all(n.op not in (Op.LOAD, Op.CALL) and (n.op is not Op.VAR or n in self._threads) for n in nodes)
            if found:
                values = np.broadcast_to(evaluate(expression, self._threads, _no_memory), next(iter(self._threads.values())).shape)
                found = all((values[k : k + WARP_THREADS] == values[k]).all() for k in range(0, len(values), WARP_THREADS))
            self._known[expression] = found
        return found

    def _receives_varying(self, stmt: WarpExchange) -> bool:
        return stmt.kind not in _SAME_FOR_ALL or self.is_varying(stmt.mask)


def _no_memory(*_: object) -> np.ndarray:
    raise CompilerBug("an expression of thread variables loads")


_SAME_FOR_ALL = frozenset(
    {
        WarpExchangeKind.ANY,
        WarpExchangeKind.ALL,
        WarpExchangeKind.BALLOT,
        WarpExchangeKind.MATCH_ALL,
        WarpExchangeKind.SUM,
        WarpExchangeKind.MAX,
        WarpExchangeKind.MIN,
        WarpExchangeKind.BIT_AND,
        WarpExchangeKind.BIT_OR,
    }
)

__all__ = ["PRIVATE", "Variance", "WarpVariance", "is_cooperative", "is_private", "is_thread_operation"]
