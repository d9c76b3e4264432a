"""Moves exchanges between the threads of a warp out of branches that not all of them take (floor 5).

`if lane == 0: v = T.ballot_sync(x > 0, 0xFFFFFFFF)` is the vote of all lanes: those that do not come give what they would. Hardware exchanges among lanes
that execute the instruction, and all that the mask names must. So the exchange goes in front of the branch where every thread can evaluate what it is
given. Where it cannot, the program is refused, unless the warp is known to come as a whole, or the lanes of the mask do; of a mask that is computed that is
taken for granted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from tilewright.errors import Kind, Label, fail
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import WARP_THREADS, For, If, Let, Seq, Stmt, WarpExchange, WarpExchangeKind, While
from tilewright.ir.visit import statements, subexpressions
from tilewright.passes.check_threads import active_threads
from tilewright.passes.context import Remarks
from tilewright.passes.thread_variance import Variance, WarpVariance
from tilewright.passes.walk import storages_written_by
from tilewright.spans import callee_of

_ALL_LANES = 0xFFFFFFFF


def hoist_exchanges(program: Program, context: Remarks) -> Program:
    """Launches whose exchanges find the lanes that they name. Raises TileError (warp-mask)."""
    return dataclasses.replace(program, launches=tuple(_hoisted(x) if x.is_thread_level else x for x in program.launches))


def _hoisted(launch: Launch) -> Launch:
    if not any(isinstance(s, WarpExchange) for s in statements(launch.body)):
        return launch
    taken, body = _Hoisting(launch).settle(launch.body)
    assert not taken  # all threads come to where there is no branch
    return launch if body is launch.body else dataclasses.replace(launch, body=body)


class _Hoisting:
    def __init__(self, launch: Launch) -> None:
        self.launch, self.variance, self.warps = launch, Variance(launch), WarpVariance(launch)
        self.conditions: list[tuple[Expr, bool]] = []
        self.splits: list[Stmt] = []  # the open constructs at which the lanes of a warp part
        self.definitions: dict[Expr, Expr] = {}

    def settle(self, root: Stmt, *before: Stmt) -> tuple[list[WarpExchange], Stmt]:
        """The exchanges that have to go in front of what holds a statement, and the statement without them.

        before   what other threads have done by then: an exchange goes in front of that too.
        """
        taken, left = list[WarpExchange](), list[Stmt]()
        parts = root.body if isinstance(root, Seq) else (root,)
        for part in parts:
            match part:
                case If():
                    exchanges, rest = self._branch(part)
                    for exchange in exchanges:
                        self._place(exchange, taken, left, before)
                    left.append(rest)
                case For() | While():
                    left.append(self._loop(part))
                case WarpExchange():
                    self._place(part, taken, left, before)
                case _:
                    if isinstance(part, Let):
                        self.definitions[part.variable] = part.value
                    left.append(part)
        is_same = len(left) == len(parts) and all(a is b for a, b in zip(left, parts, strict=True))
        return taken, root if is_same else Seq(root.span, tuple(left))

    def _place(self, node: WarpExchange, taken: list[WarpExchange], passed: list[Stmt], before: Sequence[Stmt]) -> None:
        """Decides about an exchange that stands behind the statements `passed`, and those of `before`."""
        if node.kind is not WarpExchangeKind.ACTIVE_MASK and self._missing(node) != 0 and self._is_movable(node, (*before, *passed)):
            taken.append(node)
        else:
            self._check(node)
            passed.append(node)

    def _branch(self, node: If) -> tuple[list[WarpExchange], If]:
        with self._inside(node, (node.condition, True)):
            taken, then = self.settle(node.then_body)
        other = node.else_body
        if other is not None:
            with self._inside(node, (node.condition, False)):
                others, other = self.settle(other, node.then_body)  # lanes that took the other side give what they have after it
            taken += others
        is_same = then is node.then_body and other is node.else_body
        return taken, node if is_same else dataclasses.replace(node, then_body=then, else_body=other)

    def _loop(self, node: For | While) -> Stmt:
        """A loop, out of which no exchange goes: it may be another one in every turn."""
        with self._inside(node):
            taken, body = self.settle(node.body)
            for exchange in taken:
                self._check(exchange)
        if taken:
            body = Seq(node.body.span, (*taken, *(body.body if isinstance(body, Seq) else (body,))))
        return node if body is node.body else dataclasses.replace(node, body=body)

    @contextmanager
    def _inside(self, node: Stmt, *conditions: tuple[Expr, bool]) -> Iterator[None]:
        before = self.conditions, self.splits
        self.conditions = [*self.conditions, *conditions]
        if self.warps.splits(node):
            self.splits = [*self.splits, node]
        yield
        self.conditions, self.splits = before

    def _is_movable(self, node: WarpExchange, passed: Sequence[Stmt]) -> bool:
        """Whether every thread can do an exchange in front of statements that stand before it."""
        if not (node.mask.is_const and node.mask.value == _ALL_LANES):  # lanes that the mask leaves out must not come
            return False
        given = (node.value,) if node.operand is None else (node.value, node.operand)
        written = {b for s in passed for b in storages_written_by(s)}
        return all(map(self.variance.is_known_everywhere, given)) and not any(
            (n.op is Op.CALL and not n.attribute.is_pure) or (n.op is Op.LOAD and n.buffer.storage in written) for e in given for n in subexpressions(e)
        )

    def _missing(self, node: WarpExchange) -> int | None:
        """Lanes that the mask names and that do not come, of the first such warp; 0 where all come, None where it cannot be told."""
        if not self.splits or not node.mask.is_const:
            return 0
        if any(isinstance(s, (For, While)) for s in self.splits):
            return None
        active = active_threads(self.launch, [(self._expanded(c), t) for c, t in self.conditions if self.warps.is_varying(c)])
        if active is None:
            return None
        for warp in range(0, len(active), WARP_THREADS):
            lanes = active[warp : warp + WARP_THREADS]
            bits = sum(1 << int(k) for k in np.flatnonzero(lanes))
            missing = int(node.mask.value) & ((1 << len(lanes)) - 1) & ~bits
            if bits and missing:
                return missing
        return 0

    def _expanded(self, condition: Expr) -> Expr:
        while condition in self.definitions:
            condition = self.definitions[condition]
        return condition

    def _check(self, node: WarpExchange) -> None:
        missing = self._missing(node)
        if node.kind is WarpExchangeKind.ACTIVE_MASK or missing == 0:
            return
        who = "some may not" if missing is None else f"{missing:#010x} do not"
        fail(
            Kind.WARP_MASK,
            f"{callee_of(node.span) or 'an exchange'} names the lanes {int(node.mask.value):#010x}, of which {who} come there",
            (Label(node.span), Label(self.splits[-1].span)),
            because="on a GPU every lane of the mask has to come, and this exchange cannot be done before the branch",
            help="move it in front of the branch, make the branch the same for whole warps, or name only the lanes that come",
        )


__all__ = ["hoist_exchanges"]
