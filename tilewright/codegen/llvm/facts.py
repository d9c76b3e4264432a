"""What the code generator asks about expressions and statements before it emits them (floor 6): dependences, and sums of products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, load
from tilewright.ir.stmt import AtomicKind, AtomicUpdate, For, Let, MatrixMultiply, PackPanels, ParallelFor, Print, ReduceLoop, Stmt, Store, StreamMultiply
from tilewright.ir.visit import own_expressions, statements, subexpressions

# Operations that may leave all operands but the first alone.
LAZY_OPERATIONS = frozenset({Op.IF_THEN_ELSE, Op.AND, Op.OR})
_INDEX_OPERATIONS = frozenset({Op.ADD, Op.SUB, Op.MUL, Op.FLOORDIV, Op.FLOORMOD, Op.MIN, Op.MAX})


@dataclass(frozen=True, slots=True)
class Dependences:
    """What the value of an expression depends on: variables, root buffers that it loads from, and whether it may be computed any number of times."""

    variables: frozenset[Expr]
    storages: frozenset[Buffer]
    is_pure: bool


_NOTHING = Dependences(frozenset(), frozenset(), True)


@dataclass(frozen=True, slots=True)
class Sum:
    """An integer as constant + sum of coefficient * atom; atoms are no sums themselves."""

    terms: tuple[tuple[Expr, int], ...]
    constant: int

    def coefficient(self, atom: Expr) -> int:
        return next((scale for term, scale in self.terms if term is atom), 0)


class Facts:
    """Answers, remembered per expression. One object serves one program."""

    def __init__(self) -> None:
        self._dependences: dict[Expr, Dependences] = {}
        self._loads: dict[Expr, bool] = {}
        self._written: dict[Stmt, frozenset[Buffer]] = {}
        self._bound: dict[Stmt, frozenset[Expr]] = {}

    def dependences(self, root: Expr) -> Dependences:
        found = self._dependences.get(root)
        if found is not None:
            return found
        for node in subexpressions(root):
            if node in self._dependences:
                continue
            if node.op is Op.VAR:
                made = Dependences(frozenset((node,)), frozenset(), True)
            elif not node.args:
                made = _NOTHING if node.op is not Op.LOAD else Dependences(frozenset(), frozenset((node.buffer.storage,)), True)
            else:
                parts = [self._dependences[a] for a in node.args]
                variables = parts[0].variables if len(parts) == 1 else frozenset().union(*(p.variables for p in parts))
                storages = parts[0].storages if len(parts) == 1 else frozenset().union(*(p.storages for p in parts))
                is_pure = all(p.is_pure for p in parts)
                if node.op is Op.LOAD:
                    storages |= {node.buffer.storage}
                    if node.buffer.storage.pointer is not None:
                        address = self.dependences(node.buffer.storage.pointer)
                        variables, storages = variables | address.variables, storages | address.storages
                elif node.op is Op.CALL:
                    is_pure = is_pure and node.attribute.is_pure
                made = Dependences(variables, storages, is_pure)
            self._dependences[node] = made
        return self._dependences[root]

    def written(self, root: Stmt) -> frozenset[Buffer]:
        """Root buffers that a statement may write."""
        found = self._written.get(root)
        if found is None:
            targets: set[Buffer] = set()
            for node in statements(root):
                if isinstance(node, Store) or (isinstance(node, AtomicUpdate) and node.kind is not AtomicKind.LOAD):
                    targets.add(node.buffer.storage)
                elif isinstance(node, (MatrixMultiply, StreamMultiply)):
                    targets.add(node.c.storage)
                elif isinstance(node, PackPanels):
                    targets.add(node.panels.storage)
            found = self._written[root] = frozenset(targets)
        return found

    def only_written(self, root: Stmt) -> frozenset[Buffer]:
        """Tensors of the caller that a statement writes element by element and does not use otherwise."""
        stored: set[Buffer] = set()
        used: set[Buffer] = set()
        for node in statements(root):
            if isinstance(node, Store):
                stored.add(node.buffer.storage)
            else:
                items = (item for value in vars(node).values() for item in (value if isinstance(value, tuple) else (value,)))
                used.update(item.storage for item in items if isinstance(item, Buffer))
            for expression in own_expressions(node):
                used |= self.dependences(expression).storages
        return frozenset(b for b in stored - used if b.scope is Scope.GLOBAL and b.pointer is None)

    def bound(self, root: Stmt) -> frozenset[Expr]:
        """Variables that a statement or one inside it defines."""
        found = self._bound.get(root)
        if found is None:
            names: set[Expr] = set()
            for node in statements(root):
                if isinstance(node, (For, Let)):
                    names.add(node.variable)
                elif isinstance(node, ParallelFor):
                    names.update(node.variables)
                elif isinstance(node, ReduceLoop):
                    names.update((node.result, node.axis))
                elif isinstance(node, AtomicUpdate) and node.previous is not None:
                    names.add(node.previous)
            found = self._bound[root] = frozenset(names)
        return found

    def accesses(self, root: Stmt) -> Iterator[Expr]:
        """The element accesses of a statement in program order, each once; the target of a store as the load of it."""
        seen: set[Expr] = set()
        for node in statements(root):
            if isinstance(node, (Store, AtomicUpdate)):
                target = load(node.buffer, node.indices)
                if target not in seen:
                    seen.add(target)
                    yield target
            for root_expression in own_expressions(node):
                for inner in subexpressions(root_expression):
                    if inner.op is Op.LOAD and inner not in seen:
                        seen.add(inner)
                        yield inner

    def accumulators(self, body: Stmt, bound: frozenset[Expr]) -> list[Expr]:
        """Accesses that a loop body both reads and writes, at a place that no turn changes, as the only one to their tile; not in inner parallel loops."""
        found: dict[Buffer, list[Expr]] = {}
        for access in self.accesses(body):
            found.setdefault(access.buffer.storage, []).append(access)
        for node in statements(body):
            if isinstance(node, (MatrixMultiply, PackPanels, StreamMultiply, AtomicUpdate, Print)):
                return []
        read = {inner for node in statements(body) for e in own_expressions(node) for inner in subexpressions(e) if inner.op is Op.LOAD}
        elsewhere = {b for node in statements(body) if isinstance(node, ParallelFor) for b in self.written(node)}
        written = self.written(body) - elsewhere
        alone = [same[0] for storage, same in found.items() if storage in written and len(same) == 1 and same[0] in read]
        return [a for a in alone if all(self.dependences(i).variables.isdisjoint(bound) and not self.dependences(i).storages for i in a.args)]


def is_shared_memory(left: Buffer, right: Buffer) -> bool:
    """Whether two root buffers may overlap: the same one, or two tensors of the caller."""
    return left is right or (left.scope is Scope.GLOBAL and right.scope is Scope.GLOBAL)


def is_index_operation(node: Expr) -> bool:
    return node.op in _INDEX_OPERATIONS and node.dtype.bits >= 32 and node.dtype.is_integer and node.dtype.is_signed


def conjuncts(condition: Expr) -> list[Expr]:
    """The condition and the parts that all hold where it holds."""
    if condition.op is not Op.AND:
        return [condition]
    return [condition, *(part for side in condition.args for part in conjuncts(side))]
