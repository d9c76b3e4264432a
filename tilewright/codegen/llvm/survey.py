"""Whether and how well a loop body runs with one variable as vector lanes (floor 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tilewright.codegen.llvm.addresses import Term
from tilewright.codegen.llvm.expressions import Expressions
from tilewright.codegen.llvm.facts import LAZY_OPERATIONS, Facts
from tilewright.codegen.llvm.ranges import depends_on, is_range
from tilewright.codegen.llvm.registers import register_type
from tilewright.dtypes import DType
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, load
from tilewright.ir.stmt import Assume, For, If, Let, Prefetch, ReduceLoop, Seq, Stmt, Store
from tilewright.ir.visit import subexpressions

_REGISTER_BYTES = {"i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8}
# An inner loop counts as if it ran this often.
_INNER_TURNS = 8


@dataclass
class Survey:
    """The findings.

    guards         conditions that differ between the lanes and protect something; each is a range of the variable.
    uniform        conditions that no lane and no turn changes, and that decide what is stored or loaded.
    score          contiguous accesses count for vector code, gathers and scatters against it.
    private        thread-private tiles that every lane needs for itself.
    element_bytes  of the widest value.
    is_heavy       there are function calls or divisions: fewer vectors at once, there is latency enough to hide behind.
    """

    is_possible: bool = True
    guards: list[Expr] = field(default_factory=list)
    uniform: list[Expr] = field(default_factory=list)
    score: int = 0
    private: tuple[Buffer, ...] = ()
    element_bytes: int = 1
    is_heavy: bool = False


def survey(expressions: Expressions, body: Stmt, variable: Expr, nest: Sequence[Expr]) -> Survey:
    """Surveys a body for `variable`; `nest` are all variables of the parallel nest, which have values before the vector loop starts."""
    made = _Surveyor(expressions, variable, expressions.task.facts.bound(body))
    private = private_tiles(body, expressions.task.facts)
    if private is None:
        return Survey(is_possible=False)
    made.found.private = private
    made.statement(body, 1)
    made.found.is_possible &= not (made.is_masked and made.has_packed)
    return made.found


class _Surveyor:
    def __init__(self, expressions: Expressions, variable: Expr, inner: frozenset[Expr]) -> None:
        self.expressions, self.task = expressions, expressions.task
        self.variable, self.inner = variable, inner - expressions.task.aliases.keys()
        self.varying: set[Expr] = {variable}
        self.found = Survey()
        self.is_masked = False  # lanes differ in what they do, and need masks
        self.has_packed = False
        self.seen: set[Expr] = set()

    def is_varying(self, node: Expr) -> bool:
        return any(depends_on(self.task, node, v) for v in self.varying) or not self.task.facts.dependences(node).storages.isdisjoint(self.found.private)

    def statement(self, node: Stmt, weight: int) -> None:
        found = self.found
        if not found.is_possible:
            return
        match node:
            case Seq():
                for part in node.body:
                    self.statement(part, weight)
            case Assume() | Prefetch():
                pass
            case Let():
                self.expression(node.value, weight)
                if node.variable not in self.task.aliases and self.is_varying(node.value):
                    self.varying.add(node.variable)
            case ReduceLoop():
                self.expression(node.initial, weight)
                if node.body is not None:
                    self.statement(node.body, weight * _INNER_TURNS)
                self.expression(node.value, weight * _INNER_TURNS)
                found.is_possible &= not self.is_varying(node.extent)
                if self.is_varying(node.initial) or self.is_varying(node.value):
                    self.varying.add(node.result)
            case For():
                found.is_possible &= not self.is_varying(node.extent)
                self.statement(node.body, weight * _INNER_TURNS)
            case If():
                self.expression(node.condition, weight)
                if self.is_varying(node.condition):
                    self.guard(node.condition)
                else:
                    self.decision(node.condition)
                self.statement(node.then_body, weight)
                if node.else_body is not None:
                    self.statement(node.else_body, weight)
            case Store():
                self.expression(node.value, weight)
                for index in node.indices:
                    self.expression(index, weight)
                self.access(load(node.buffer, node.indices), weight)
            case _:
                found.is_possible = False

    def guard(self, condition: Expr) -> None:
        if condition in self.task.known:
            return
        if not is_range(self.task, condition, self.variable, self.inner):
            self.is_masked = True
        elif not any(known is condition for known in self.found.guards):
            self.found.guards.append(condition)

    def decision(self, condition: Expr) -> None:
        dependences = self.task.facts.dependences(condition)
        is_free = dependences.is_pure and not dependences.storages and dependences.variables.isdisjoint(self.inner)
        if is_free and not condition.is_const and condition not in self.task.known and not any(c is condition for c in self.found.uniform):
            self.found.uniform.append(condition)

    def expression(self, root: Expr, weight: int) -> None:
        found = self.found
        for node in subexpressions(root):
            if node in self.seen:
                continue
            self.seen.add(node)
            if node.op is Op.LOAD:
                self.access(node, weight)
            elif node.op is Op.CALL:
                found.is_heavy = True
                found.is_possible &= node.attribute.is_pure
            elif node.op in (Op.DIV, Op.FLOORDIV, Op.FLOORMOD) and not node.args[1].is_const:
                found.is_heavy = True
            elif node.op in LAZY_OPERATIONS and not all(map(self.expressions.is_harmless, node.args[1:])):
                if self.is_varying(node.args[0]):
                    self.guard(node.args[0])
                else:
                    self.decision(node.args[0])
            if not self.task.is_index(node) and node.op not in (Op.CONST, Op.VAR) and not node.dtype.is_bool:
                self.width(node.dtype)

    def width(self, dtype: DType) -> None:
        self.found.element_bytes = max(self.found.element_bytes, _REGISTER_BYTES[register_type(dtype)])

    def access(self, node: Expr, weight: int) -> None:
        """Scores one access."""
        self.width(node.buffer.dtype)
        self.has_packed |= self.expressions.memory.plan(node).is_packed
        if not self.is_varying(node):
            return
        steps = [self.step(term) for term in self.expressions.memory.plan(node).terms]
        if any(step is None for step in steps):
            self.found.score -= 2 * weight
            return
        step = sum(s for s in steps if s is not None)
        self.found.score += weight if step == 1 else -2 * weight if step else 0

    def step(self, term: Term) -> int | None:
        """How far an address term moves from lane to lane; None where that is not the same everywhere."""
        if term.atom is None or not self.is_varying(term.atom):
            return 0
        if term.atom is self.variable:
            return term.scale if term.stride is None else None
        # Quotients and remainders of neighbours are neighbours or equal: such lanes come out of one load.
        if term.atom.op in (Op.FLOORDIV, Op.FLOORMOD) and term.atom.args[1].is_const and self.task.sum(term.atom.args[0]).coefficient(self.variable) == 1:
            return 0
        return None


def private_tiles(body: Stmt, facts: Facts) -> tuple[Buffer, ...] | None:
    """The thread-private tiles that a body writes, where every turn starts by giving the elements it uses their values.

    None where a turn may read what an earlier one left, or picks the element at run time: such turns run one after the other.
    """
    written = {b: None for b in facts.written(body) if b.scope in (Scope.VARIABLE, Scope.LOCAL)}
    if not written:
        return ()
    accesses = [a for a in facts.accesses(body) if a.buffer.storage in written]
    if not all(a.buffer.source is None and all(i.is_const for i in a.args) for a in accesses):
        return None
    given: set[Expr] = set()

    def gives(node: Stmt) -> bool:
        """Walks the statements that every turn runs; False at a read of something not given yet."""
        if isinstance(node, Seq):
            return all(map(gives, node.body))
        reads = [e for e in facts.accesses(node) if e.buffer.storage in written]
        if isinstance(node, Store) and (target := load(node.buffer, node.indices)).buffer.storage in written:
            is_read = any(inner is target for e in (node.value, *node.indices) for inner in subexpressions(e))
            reads = [e for e in reads if e is not target or is_read]
            given_before = all(e in given for e in reads)
            given.add(target)
            return given_before
        return all(e in given for e in reads)

    if not gives(body):
        return None
    return tuple(dict.fromkeys(a.buffer for a in accesses))
