"""Finds what is wrong with thread-level code (floor 5): barriers and operations of the block that not all threads reach, and stores that race."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.arith.evaluate import evaluate
from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir.buffer import Region
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Launch
from tilewright.ir.stmt import (
    WARP_THREADS,
    Barrier,
    BarrierScope,
    BlockReduce,
    For,
    If,
    Let,
    ParallelFor,
    Seq,
    Stmt,
    Store,
    WarpExchange,
    WarpExchangeKind,
    While,
)
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import names_made, own_expressions, statements, subexpressions
from tilewright.ops.gemm import Gemm
from tilewright.passes.thread_variance import Variance, is_cooperative, is_private
from tilewright.spans import callee_of

Array = np.ndarray


def check_threads(launch: Launch) -> None:
    """Raises TileError at the first mistake in a launch of thread-level code."""
    _Check(launch).stmt(launch.body)


def active_threads(launch: Launch, conditions: Sequence[tuple[Expr, bool]]) -> Array | None:
    """Which threads, by flat number, fulfil conditions (each with the truth it must have); None where that depends on more than the thread."""
    shape = tuple(reversed(launch.threads))
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    values = dict(zip(reversed(launch.thread_variables), grid, strict=True))
    active = np.ones(shape, np.bool_)
    for condition, truth in conditions:
        for node in subexpressions(condition):
            if (node.op is Op.VAR and node not in values) or node.op is Op.LOAD or (node.op is Op.CALL and not node.attribute.is_pure):
                return None
        found = evaluate(condition, values, _no_memory)
        active &= found if truth else ~found
    return active.reshape(-1)


def _no_memory(*_: object) -> Array:
    raise AssertionError("nothing is loaded")


class _Check:
    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.variance = Variance(launch)
        self.thread_count = launch.threads[0] * launch.threads[1] * launch.threads[2]
        self.splits: list[tuple[Stmt, str]] = []  # the open constructs at which threads part, and what they depend on
        self.conditions: list[tuple[Expr, bool]] = []
        self.definitions: dict[Expr, Expr] = {}

    # -- where threads part
    def _reason(self, stmt: Stmt) -> str:
        """What the choice at an If or loop depends on."""
        header = stmt.extent if isinstance(stmt, For) else stmt.condition if isinstance(stmt, (If, While)) else None
        while header is not None and header in self.definitions:
            header = self.definitions[header]
        if header is None or not self.variance.is_varying(header):
            return "when each thread leaves it"
        return f"`{header}`, which differs between the threads of the block"

    def _divergent(self, what: str, kind: Kind, span: Span, because: str, help_: str) -> None:
        if not self.splits:
            return
        split, reason = self.splits[-1]
        place = "branch" if isinstance(split, If) else "loop"
        labels = (Label(span), Label(split.span, f"the {place}"))
        fail(kind, f"{what} stands in a {place} that depends on {reason}", labels, because=because, help=help_.format(place=place))

    def stmt(self, node: Stmt) -> None:
        match node:
            case Seq():
                for inner in node.body:
                    self.stmt(inner)
            case If():
                self._inside(node, node.then_body, (node.condition, True))
                if node.else_body is not None:
                    self._inside(node, node.else_body, (node.condition, False))
            case For() | While():
                self._inside(node, node.body, None)
            case Let():
                self.definitions[node.variable] = node.value
            case Barrier():
                self._barrier(node)
            case BlockReduce():
                name = callee_of(node.span) or "a reduction over the block"
                self._divergent(
                    name,
                    Kind.DIVERGENT_BARRIER,
                    node.span,
                    "it waits for all threads of the block, and those that do not come there never let the others go on",
                    "move it out, and let the threads that have nothing to give take part with a value that changes nothing",
                )
            case WarpExchange():
                self._exchange(node)
            case Store():
                self._store(node)
            case ParallelFor() | TileOp() if is_cooperative(node):
                self._cooperative(node)

    def _inside(self, node: Stmt, body: Stmt, condition: tuple[Expr, bool] | None) -> None:
        is_split = self.variance.splits(node)
        if is_split:
            self.splits.append((node, self._reason(node)))
        if condition is not None:
            self.conditions.append(condition)
        self.stmt(body)
        if condition is not None:
            self.conditions.pop()
        if is_split:
            self.splits.pop()

    def _active(self) -> Array | None:
        """The threads that reach this place, where that is known; break and continue aside."""
        if any(isinstance(split, (For, While)) for split, _ in self.splits):
            return None
        return active_threads(self.launch, [(self._expanded(c), t) for c, t in self.conditions if self.variance.is_varying(c)])

    def _expanded(self, condition: Expr) -> Expr:
        while condition in self.definitions:
            condition = self.definitions[condition]
        return condition

    # -- barriers
    def _barrier(self, node: Barrier) -> None:
        if node.scope is not BarrierScope.BLOCK:
            return
        if node.num_threads is None:
            self._divergent(
                "T.sync_threads",
                Kind.DIVERGENT_BARRIER,
                node.span,
                "a barrier waits for all threads of the block, and those that do not come there never let the others go on",
                "move the barrier out of the {place}, or give it a number and the number of threads that take part: T.sync_threads(1, 64)",
            )
            return
        active = self._active()
        arriving = self.thread_count if active is None else int(active.sum())
        expected = -(-arriving // WARP_THREADS) * WARP_THREADS
        if (active is not None or not self.splits) and expected != node.num_threads:
            fail(
                Kind.BARRIER_THREADS,
                f"barrier {node.barrier_id} waits for {node.num_threads} threads, but {arriving} of the block reach it here",
                node.span,
                because="threads that meet at one barrier from different places are a construct of the hardware, which a CPU does not have",
                help=f"give {expected}, or leave the barrier's number and count out",
            )

    def _exchange(self, node: WarpExchange) -> None:
        """The lanes of the mask that do not come there give what they would, if they know it."""
        active = self._active() if self.splits else None
        if active is None or node.kind is WarpExchangeKind.ACTIVE_MASK or not node.mask.is_const or self.variance.is_known_everywhere(node.value):
            return
        for warp in range(0, self.thread_count, WARP_THREADS):
            lanes = active[warp : warp + WARP_THREADS]
            bits = int(sum(1 << int(k) for k in np.flatnonzero(lanes)))
            named = int(node.mask.value) & ((1 << len(lanes)) - 1)
            if bits and named & ~bits:
                fail(
                    Kind.WARP_MASK,
                    f"{callee_of(node.span) or 'an exchange'} names the lanes {named:#010x}, but {bits:#010x} come there in the warp from thread {warp} on",
                    (Label(node.span), *(Label(split.span) for split, _ in self.splits[-1:])),
                    because="every lane of the mask gives a value, and the others have not computed it",
                    help=f"give mask={bits:#x}, or compute the value before the branch",
                )

    # -- stores and operations of the block
    def _store(self, node: Store) -> None:
        if self.thread_count == 1 or is_private(node.buffer) or self.splits:
            return
        if any(map(self.variance.is_varying, node.indices)) or not self.variance.is_varying(node.value):
            return
        fail(
            Kind.THREAD_RACE,
            f"all threads write the same element of {node.buffer.name}, with values that differ between them",
            (Label(node.span), Label(node.buffer.span, f"{node.buffer.name} is declared here")),
            because="the threads run at the same time, so which value stays is not defined",
            help=f"index {node.buffer.name} by the thread, write under `if tx == 0:`, or combine with T.atomic_add",
        )

    def _cooperative(self, node: Stmt) -> None:
        name = "T.Parallel" if isinstance(node, ParallelFor) else callee_of(node.span) or type(node).__name__
        self._divergent(
            name,
            Kind.DIVERGENT_OPERATION,
            node.span,
            "all threads of the block do it together",
            "move it out of the {place}, or write the loop of one thread with T.serial",
        )
        if isinstance(node, Gemm):
            for region in (*node.effects().reads, *node.effects().writes):
                self._no_private(node, name, region)
        own = {name for inner in statements(node) for name in names_made(inner)}
        written = {s.buffer.storage for s in statements(node) if isinstance(s, Store)}
        for inner in statements(node):
            for part in (n for e in own_expressions(inner) for n in subexpressions(e)):
                is_foreign_name = part.op is Op.VAR and part in self.variance.variables and part not in own
                if is_foreign_name or (part.op is Op.LOAD and part.buffer.storage in self.variance.buffers - written):
                    fail(
                        Kind.DIVERGENT_OPERATION,
                        f"{name} uses `{part}`, which differs between the threads of the block",
                        (Label(inner.span), Label(node.span)) if inner is not node else (Label(node.span),),
                        because="all threads of the block do it together, so it needs one value",
                        help="write the loop of one thread with T.serial, or pass the values through a shared tile",
                    )

    def _no_private(self, node: Stmt, name: str, region: Region) -> None:
        if is_private(region.buffer):
            fail(
                Kind.DIVERGENT_OPERATION,
                f"{name} was given {region.buffer.name}, of which every thread has its own copy",
                (Label(node.span), Label(region.buffer.span, "allocated here")),
                because="all threads of the block do a product together, on tiles of the block",
                help="allocate it with T.alloc_fragment or T.alloc_shared",
            )


__all__ = ["active_threads", "check_threads"]
