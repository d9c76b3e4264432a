"""Thread-level code in the reference (floor 7): the threads of a block are lanes, and every statement is done by all of them before the next begins.

That is what the language promises of thread-level code (language.md 4): threads see each other's writes in the order of the statements.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tilewright.errors import Kind, Span, fail
from tilewright.execution.memory import Array, bits
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Launch
from tilewright.ir.stmt import (
    WARP_THREADS,
    Barrier,
    BarrierScope,
    BlockReduce,
    ParallelFor,
    ReduceKind,
    Stmt,
    WarpExchange,
    WarpExchangeKind,
)
from tilewright.ir.tileop import ReferenceEnvironment, TileOp
from tilewright.ir.visit import inner_statements, names_bound, own_expressions, statements, subexpressions
from tilewright.reference.access import ElementAccess
from tilewright.reference.reduce import identity, reduce_values

_PRIVATE = (Scope.LOCAL, Scope.VARIABLE)
_WARP_KINDS = {
    WarpExchangeKind.SUM: ReduceKind.SUM,
    WarpExchangeKind.MAX: ReduceKind.MAX,
    WarpExchangeKind.MIN: ReduceKind.MIN,
    WarpExchangeKind.BIT_AND: ReduceKind.BIT_AND,
    WarpExchangeKind.BIT_OR: ReduceKind.BIT_OR,
}


class ThreadStatements:
    """What the interpreter does with statements when its lanes are the threads of a block. Axes of a lane array: z, y, x."""

    _access: ElementAccess
    _variables: dict[Expr, Any]
    _mask: Array

    def _init_threads(self) -> None:
        self._is_in_threads = False
        self._made_by: dict[Expr, Array] = {}  # which threads have given a name its value
        self._own: dict[Stmt, tuple[list[Buffer], set[Expr]]] = {}

    def _evaluate(self, expression: Expr, mask: Array | None = None) -> Array:
        raise NotImplementedError

    def _parallel_for(self, stmt: ParallelFor) -> None:
        raise NotImplementedError

    # -- entering and leaving
    def _enter_threads(self, launch: Launch) -> None:
        """The lanes become the threads of a new block."""
        shape = tuple(reversed(launch.threads))
        for axis, (variable, extent) in enumerate(zip(launch.thread_variables, launch.threads, strict=True)):
            self._variables[variable] = np.arange(extent, dtype=variable.dtype.numpy).reshape(-1, *(1,) * axis)
        self._access.leave_lanes()
        self._access.spread(shape, [b for b in launch.buffers if b.source is None and b.scope in _PRIVATE])
        self._access.is_in_threads = self._is_in_threads = True
        self._mask = np.ones(shape, np.bool_)
        self._made_by = {}

    def _leave_threads(self) -> None:
        self._access.leave_lanes()
        self._access.is_in_threads = self._is_in_threads = False
        self._mask = np.asarray(True)

    @contextmanager
    def _as_block(self, stmt: Stmt, lane: int | None = None) -> Iterator[None]:
        """Without lanes: for the block, where names must have one value on all threads, or for one thread."""
        values = dict(self._variables)
        roots, names = self._own_of_threads(stmt)
        for name in names:
            if name in values:
                self._variables[name] = self._one(np.asarray(values[name]), name.name, stmt.span, lane)
        with self._access.collapsed(roots, lane, lambda array, name: self._one_copy(array, name, stmt.span)):
            mask, self._mask, self._is_in_threads = self._mask, np.asarray(True), False
            try:
                yield
            finally:
                self._mask, self._is_in_threads = mask, True
        for name in values:
            self._variables[name] = values[name]

    def _own_of_threads(self, stmt: Stmt) -> tuple[list[Buffer], set[Expr]]:
        """Root buffers of a statement that every thread has for itself, and the names that it takes from outside."""
        found = self._own.get(stmt)
        if found is None:
            parts = tuple(_nested(stmt))
            roots = [b for b in {b.storage for inner in parts for b in _buffers(inner)} if b.scope in _PRIVATE]
            used = {n for inner in parts for e in own_expressions(inner) for n in subexpressions(e) if n.op is Op.VAR}
            found = self._own[stmt] = roots, used - {n for inner in parts for n in names_bound(inner)}
        return found

    def _one(self, values: Array, name: str, span: Span, lane: int | None) -> Any:
        """The value of one thread, or that of all."""
        if values.ndim == 0:
            return values
        spread = np.broadcast_to(values, self._access.shape).reshape(-1)
        if lane is None and not (bits(spread) == bits(spread[:1])).all():
            self._refuse_differing(name, span)
        return spread[lane or 0]

    def _one_copy(self, array: Array, name: str, span: Span) -> None:
        if not (bits(array) == bits(array[:1])).all():
            self._refuse_differing(name, span)

    def _refuse_differing(self, name: str, span: Span) -> None:
        fail(
            Kind.DIVERGENT_OPERATION,
            f"an operation of the whole block uses {name}, which differs between its threads",
            span,
            because="all threads of the block do it together, so it needs one value",
            help="write the loop of one thread with T.serial, or pass the values through a shared tile",
        )

    def _require_all(self, kind: Kind, what: str, span: Span) -> None:
        if not np.broadcast_to(self._mask, self._access.shape).all():
            fail(
                kind,
                f"{what} is reached by {int(self._mask.sum())} of the {math.prod(self._access.shape)} threads of the block",
                span,
                because="all threads of the block take part in it",
                help="move it out of the branch or loop that only some threads take",
            )

    # -- statements
    def _block_statement(self, stmt: TileOp | ParallelFor, environment: ReferenceEnvironment) -> None:
        """A tile operation, of a thread where it works on memory of threads, or a parallel loop."""
        if isinstance(stmt, TileOp) and _works_on_threads(stmt):
            for lane in np.flatnonzero(np.broadcast_to(self._mask, self._access.shape)):
                with self._as_block(stmt, int(lane)):
                    stmt.reference(environment)
            return
        self._require_all(Kind.DIVERGENT_OPERATION, "an operation of the whole block", stmt.span)
        with self._as_block(stmt):
            if isinstance(stmt, TileOp):
                stmt.reference(environment)
            else:
                self._parallel_for(stmt)

    def _barrier(self, stmt: Barrier) -> None:
        if not self._is_in_threads or stmt.scope is not BarrierScope.BLOCK:
            return
        if stmt.num_threads is None:
            self._require_all(Kind.DIVERGENT_BARRIER, "a barrier", stmt.span)
            return
        arriving = int(np.broadcast_to(self._mask, self._access.shape).sum())
        if -(-arriving // WARP_THREADS) * WARP_THREADS != stmt.num_threads:
            fail(
                Kind.BARRIER_THREADS,
                f"barrier {stmt.barrier_id} waits for {stmt.num_threads} threads, but {arriving} of the block reach it here",
                stmt.span,
                because="threads that meet at one barrier from different places are a construct of the hardware",
                help="give the number of threads that come here",
            )

    def _block_reduce(self, stmt: BlockReduce) -> None:
        self._require_all(Kind.DIVERGENT_BARRIER, "a reduction over the block", stmt.span)
        values = np.broadcast_to(self._evaluate(stmt.value), self._access.shape)
        axes = tuple(2 - a for a in stmt.axes)
        moved = np.moveaxis(values, axes, tuple(range(len(axes))))
        kept = moved.shape[len(axes) :]
        neutral = np.asarray(identity(stmt.kind, stmt.value.dtype)).astype(stmt.value.dtype.numpy)
        total = reduce_values(stmt.kind, stmt.value.dtype, np.full(kept, neutral), [(moved.reshape(-1, *kept), np.asarray(True))])
        self._variables[stmt.result] = np.expand_dims(total, axes)
        self._made_by.pop(stmt.result, None)

    # -- warps
    def _exchange(self, stmt: WarpExchange) -> None:
        shape = self._access.shape
        count = math.prod(shape)
        active = np.broadcast_to(self._mask, shape).reshape(-1)
        lane = np.arange(count) % WARP_THREADS
        if stmt.kind is WarpExchangeKind.ACTIVE_MASK:
            named, gives = np.full(count, 0xFFFFFFFF, np.int64), active
        else:
            named = np.broadcast_to(self._evaluate(stmt.mask), shape).reshape(-1).astype(np.int64)
            gives = self._giving(stmt, active, lane, named)
        given = np.broadcast_to(self._evaluate(stmt.value, gives.reshape(shape)), shape).reshape(-1)
        if stmt.operand is not None:
            operand = np.broadcast_to(self._evaluate(stmt.operand), shape).reshape(-1).astype(np.int64)
            source = _source(stmt.kind, operand, lane, stmt.width) + np.arange(count) - lane
            source = np.where((source >= 0) & (source < count), source, np.arange(count))
            if (active & ~gives[source]).any():
                self._refuse_lane(stmt, "takes the value of a lane that gives none")
            result = given[source]
        else:
            result = np.zeros(count, stmt.result.dtype.numpy)
            for t in map(int, np.flatnonzero(active)):
                first = t - t % WARP_THREADS
                group = np.arange(first, min(first + WARP_THREADS, count))
                group = group[gives[group] & (named[t] >> (group - first) & 1 == 1)]
                result[t] = _combined(stmt, given[group], group - first, given[t])
        self._variables[stmt.result] = result.reshape(shape)
        self._made_by[stmt.result] = active.reshape(shape)

    def _giving(self, stmt: WarpExchange, active: Array, lane: Array, named: Array) -> Array:
        """Which threads give a value: the active ones, and those that an active one of the warp names. Lanes that do not come must know it."""
        if (active & (named >> lane & 1 == 0)).any():
            self._refuse_lane(stmt, "is reached by a lane that its mask leaves out")
        gives = active.copy()
        for t in map(int, np.flatnonzero(active)):
            first = t - t % WARP_THREADS
            group = np.arange(first, min(first + WARP_THREADS, len(active)))
            gives[group] |= named[t] >> (group - first) & 1 == 1
        absent = gives & ~active
        if absent.any():
            for node in subexpressions(stmt.value):
                made = self._made_by.get(node)
                is_unknown = made is not None and (absent & ~made.reshape(-1)).any()
                if is_unknown or (node.op is Op.LOAD and node.buffer.storage.scope not in (*_PRIVATE, Scope.GLOBAL)):
                    self._refuse_lane(stmt, "names lanes that do not come there, and have not computed the value")
        return gives

    def _refuse_lane(self, stmt: WarpExchange, what: str) -> None:
        fail(
            Kind.WARP_MASK,
            f"this exchange ({stmt.kind.value}) {what}",
            stmt.span,
            because="the lanes of the mask exchange values with each other, and every one of them gives one",
            help="give the mask of the lanes that take part, or move the exchange out of the branch",
        )


def _source(kind: WarpExchangeKind, operand: Array, lane: Array, width: int) -> Array:
    """The lane from which each lane takes the value; its own where there is none in its group."""
    inside = lane % width
    match kind:
        case WarpExchangeKind.SHUFFLE:
            return lane - inside + operand % width
        case WarpExchangeKind.SHUFFLE_UP:
            return np.where((operand >= 0) & (inside >= operand), lane - operand, lane)
        case WarpExchangeKind.SHUFFLE_DOWN:
            return np.where((operand >= 0) & (inside + operand < width), lane + operand, lane)
    source = lane ^ (operand & (WARP_THREADS - 1))
    return np.where(source // width <= lane // width, source, lane)


def _combined(stmt: WarpExchange, values: Array, lanes: Array, own: Any) -> Any:
    """What one lane receives from the lanes that take part."""
    masks = np.left_shift(1, lanes)
    match stmt.kind:
        case WarpExchangeKind.ANY:
            return values.any()
        case WarpExchangeKind.ALL:
            return values.all()
        case WarpExchangeKind.BALLOT:
            return masks[values].sum()
        case WarpExchangeKind.ACTIVE_MASK:
            return masks.sum()
        case WarpExchangeKind.MATCH_ANY | WarpExchangeKind.MATCH_ALL:
            is_same = bits(values) == bits(np.asarray([own]))
            return masks[is_same].sum() if stmt.kind is WarpExchangeKind.MATCH_ANY or is_same.all() else 0
    kind, dtype = _WARP_KINDS[stmt.kind], stmt.value.dtype
    neutral = np.asarray(identity(kind, dtype)).astype(dtype.numpy)
    return reduce_values(kind, dtype, neutral, [(values, np.asarray(True))])[()]


def _works_on_threads(stmt: TileOp) -> bool:
    effects = stmt.effects()
    return any(r.buffer.storage.scope in _PRIVATE for r in (*effects.reads, *effects.writes))


def _nested(stmt: Stmt) -> Iterable[Stmt]:
    return statements(stmt) if any(inner_statements(stmt)) else (stmt,)


def _buffers(stmt: Stmt) -> Iterable[Buffer]:
    for value in vars(stmt).values():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, (Buffer, Region)):
                yield item if isinstance(item, Buffer) else item.buffer
    for expression in own_expressions(stmt):
        for node in subexpressions(expression):
            if node.op is Op.LOAD:
                yield node.buffer


__all__ = ["ThreadStatements"]
