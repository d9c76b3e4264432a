"""What is computed in front of a loop because no turn changes it (floor 6)."""

from __future__ import annotations

from tilewright.codegen.llvm.expressions import Expressions
from tilewright.codegen.llvm.facts import LAZY_OPERATIONS, is_shared_memory
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr
from tilewright.ir.stmt import For, If, MatrixMultiply, Seq, Stmt, While
from tilewright.ir.visit import own_expressions


def enter_loop(expressions: Expressions, body: Stmt, bound: frozenset[Expr], *, runs: bool, is_serial: bool) -> None:
    """Emits what is invariant in a loop with that body, and forgets loads that turns of the loop may change.

    bound      variables that get their values inside.
    runs       at least one turn is certain: then what every turn loads may be loaded here.
    is_serial  a turn may see what earlier ones stored, through any pointer.
    """
    task = expressions.task
    written = task.facts.written(body)
    if is_serial:
        task.forget(written)
    for access in task.facts.accesses(body):
        expressions.memory.prepare(access)
    _Hoist(expressions, bound, written, is_serial).statement(body, runs)


class _Hoist:
    def __init__(self, expressions: Expressions, bound: frozenset[Expr], written: frozenset[Buffer], is_serial: bool) -> None:
        self.expressions, self.task = expressions, expressions.task
        self.bound, self.written, self.is_serial = bound, written, is_serial
        self.seen: set[Expr] = set()

    def statement(self, node: Stmt, is_certain: bool) -> None:
        """is_certain: every run of the loop comes here."""
        if isinstance(node, Seq):
            for part in node.body:
                self.statement(part, is_certain)
            return
        for expression in own_expressions(node):
            self.expression(expression, is_certain and not isinstance(node, (While, MatrixMultiply)))
        if isinstance(node, If):
            self.statement(node.then_body, False)
            if node.else_body is not None:
                self.statement(node.else_body, False)
        elif isinstance(node, (For, While)):
            self.statement(node.body, False)

    def expression(self, root: Expr, is_certain: bool) -> None:
        """Computes the largest invariant parts."""
        stack = [(root, is_certain)]
        while stack:
            node, is_certain = stack.pop()
            if not node.args or node in self.seen or self.task.is_index(node):
                continue
            self.seen.add(node)
            if self.is_invariant(node, is_certain):
                self.expressions.value(node)
                continue
            first_lazy = 1 if node.op in LAZY_OPERATIONS else len(node.args)
            stack += [(operand, is_certain and position < first_lazy) for position, operand in enumerate(node.args)][::-1]

    def is_invariant(self, node: Expr, is_certain: bool) -> bool:
        task = self.task
        dependences = task.facts.dependences(node)
        if not dependences.is_pure or not dependences.variables.isdisjoint(self.bound) or not task.is_bound(node):
            return False
        if not dependences.storages:
            return True
        if not is_certain:
            return False
        if self.is_serial:
            return not any(is_shared_memory(read, changed) for read in dependences.storages for changed in self.written)
        return dependences.storages.isdisjoint(self.written)
