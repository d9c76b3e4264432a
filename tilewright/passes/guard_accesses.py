"""Guards accesses to global memory that cannot be proven inside (floor 5; language.md 5.3).

A load outside its tensor gives the tensor's safe value, a store or an atomic outside is skipped. Only the axes and sides that are not proven are
tested; what is proven inside stays as it is.
"""

from __future__ import annotations

import dataclasses

from tilewright.arith.bounds import Facts
from tilewright.arith.prove import decide
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, binary, const, load, logical, rebuild, select, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Assume, AtomicUpdate, For, If, Let, ParallelFor, ReduceLoop, Seq, Stmt, Store, While
from tilewright.ir.visit import rewrite, subexpressions
from tilewright.passes.context import Remarks
from tilewright.passes.walk import launch_facts

_LAZY = frozenset({Op.IF_THEN_ELSE, Op.AND, Op.OR})


def guard_accesses(program: Program, context: Remarks) -> Program:
    """Adds the guards; the program must hold no tile operation."""
    return dataclasses.replace(program, launches=tuple(_guard_launch(launch) for launch in program.launches))


def _guard_launch(launch: Launch) -> Launch:
    guard = _Guard(dict(launch.safe_values))
    body = guard.stmt(launch.body, launch_facts(launch))
    return dataclasses.replace(launch, body=body, buffers=(*launch.buffers, *guard.variables))


class _Guard:
    def __init__(self, safe_values: dict[Buffer, Expr]) -> None:
        self.safe_values = safe_values
        self.variables: list[Buffer] = []

    def inside(self, buffer: Buffer, indices: tuple[Expr, ...], facts: Facts) -> Expr | None:
        """What must be tested before an access; None where it is proven inside."""
        if buffer.scope is not Scope.GLOBAL:
            return None
        condition: Expr | None = None
        for index, extent in zip(indices, buffer.shape, strict=True):
            for test in (binary(Op.GE, index, const(0)), binary(Op.LT, index, extent)):
                if decide(test, facts) is not True:
                    condition = test if condition is None else logical(Op.AND, condition, test)
        return condition

    def expr(self, root: Expr, facts: Facts) -> Expr:
        """The expression with its global loads guarded. A stack of our own: sums that Python unrolled are deeper than Python's."""
        if not any(n.op is Op.LOAD and n.buffer.scope is Scope.GLOBAL for n in subexpressions(root)):
            return root
        made: dict[Expr, Expr] = {}
        stack = [root]
        while stack:
            node = stack[-1]
            waiting = [a for a in (node.args[:1] if node.op in _LAZY else node.args) if a not in made]
            if waiting and node not in made:
                stack += waiting
                continue
            stack.pop()
            if node not in made:
                made[node] = self._lazy(node, made[node.args[0]], facts) if node.op in _LAZY else self._eager(node, tuple(made[a] for a in node.args), facts)
        return made[root]

    def _lazy(self, node: Expr, first: Expr, facts: Facts) -> Expr:
        """A node whose other operands count only where the first says so: what it says holds there."""
        condition = node.args[0]
        if node.op is not Op.IF_THEN_ELSE:
            return logical(node.op, first, self.expr(node.args[1], facts.assuming(condition) if node.op is Op.AND else facts.assuming_not(condition)))
        return select(first, self.expr(node.args[1], facts.assuming(condition)), self.expr(node.args[2], facts.assuming_not(condition)), is_lazy=True)

    def _eager(self, node: Expr, operands: tuple[Expr, ...], facts: Facts) -> Expr:
        made = node if all(a is b for a, b in zip(operands, node.args, strict=True)) else rebuild(node, operands)
        if node.op is Op.LOAD:
            is_inside = self.inside(node.buffer, operands, facts)
            if is_inside is not None:
                return select(is_inside, made, self.safe_values.get(node.buffer, const(0, node.dtype)), is_lazy=True)
        return made

    def stmt(self, node: Stmt, facts: Facts) -> Stmt:
        match node:
            case Seq():
                body: list[Stmt] = []
                for inner in node.body:
                    made = self.stmt(inner, facts)
                    # What a statement names is visible in the rest of its sequence: a Let that the guard made must stand there itself.
                    body += made.body if isinstance(made, Seq) and not isinstance(inner, Seq) else [made]
                    if isinstance(inner, Assume):
                        facts = facts.assuming(inner.condition)
                    elif isinstance(inner, Let):
                        facts = facts.with_definition(inner.variable, inner.value)
                return dataclasses.replace(node, body=tuple(body))
            case For():
                return dataclasses.replace(node, extent=self.expr(node.extent, facts), body=self.stmt(node.body, facts.with_loop(node.variable, node.extent)))
            case ParallelFor():
                extents = tuple(self.expr(e, facts) for e in node.extents)
                return dataclasses.replace(node, extents=extents, body=self.stmt(node.body, facts.with_box(node.variables, node.extents)))
            case If():
                otherwise = None if node.else_body is None else self.stmt(node.else_body, facts.assuming_not(node.condition))
                return dataclasses.replace(
                    node, condition=self.expr(node.condition, facts), then_body=self.stmt(node.then_body, facts.assuming(node.condition)), else_body=otherwise
                )
            case While():
                return dataclasses.replace(node, condition=self.expr(node.condition, facts), body=self.stmt(node.body, facts))
            case ReduceLoop():
                turn = facts.with_loop(node.axis, node.extent)
                return dataclasses.replace(
                    node,
                    initial=self.expr(node.initial, facts),
                    extent=self.expr(node.extent, facts),
                    value=self.expr(node.value, turn),
                    body=None if node.body is None else self.stmt(node.body, turn),
                )
            case Store() | AtomicUpdate():
                indices = tuple(self.expr(i, facts) for i in node.indices)
                made = dataclasses.replace(node, indices=indices, value=self.expr(node.value, facts))
                condition = self.inside(node.buffer, indices, facts)
                return made if condition is None else self.guarded_update(made, condition)
            case _:
                return rewrite(node, on_expr=lambda e: self.expr(e, facts))

    def guarded_update(self, node: Store | AtomicUpdate, condition: Expr) -> Stmt:
        """The update where the condition holds. What an atomic gives as the previous value goes through a variable, which holds the safe value elsewhere."""
        if not isinstance(node, AtomicUpdate) or node.previous is None:
            return If(node.span, condition, node)
        held = Buffer("previous", node.buffer.dtype, (1,), Scope.VARIABLE, node.span)
        self.variables.append(held)
        inner = var("previous", node.previous.dtype)
        update = Seq(node.span, (dataclasses.replace(node, previous=inner), Store(node.span, held, (const(0),), inner)))
        safe = self.safe_values.get(node.buffer, const(0, node.buffer.dtype))
        return Seq(
            node.span, (Store(node.span, held, (const(0),), safe), If(node.span, condition, update), Let(node.span, node.previous, load(held, (const(0),))))
        )
