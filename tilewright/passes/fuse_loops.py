"""Joins parallel loops that hand each other elements, and leaves out tiles that nobody reads any more (floor 5).

On a GPU a tile between two element-by-element steps lives in registers. On a CPU it would be written to memory and read back, once per step; in one
joint loop the element stays in a register, and a copy to a tile followed by a copy from it becomes one copy.

Loops are joined where they run over the same box and share memory only element by element: at the same place in the same turn. Tensors of the
caller are taken to be apart from each other, which the host checks; memory behind raw pointers is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, load, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Assume, If, Let, ParallelFor, ReduceLoop, Seq, Stmt, Store
from tilewright.ir.visit import own_expressions, rewrite, rewrite_expr, statements, subexpressions, substitute, substitute_expr
from tilewright.passes.accesses import Accesses, flat, is_element_by_element, is_pure
from tilewright.passes.context import PassContext
from tilewright.passes.walk import buffers_of, viewed_tiles

_JOINABLE = (Seq, Let, Store, If, Assume)


def fuse_loops(program: Program, context: PassContext) -> Program:
    """Joins what can be joined in every launch; the program must hold no tile operation."""
    return dataclasses.replace(program, launches=tuple(_fuse_launch(launch) for launch in program.launches))


def _fuse_launch(launch: Launch) -> Launch:
    views = viewed_tiles(launch)
    body = without_unread_tiles(rewrite(launch.body, post=_fuse_sequence), views)
    counts = _read_counts(body)
    once = frozenset(b for b, count in counts.items() if count == 1 and b not in views)
    return dataclasses.replace(launch, body=rewrite(body, post=lambda node: _reduce_values(node, once)))


def _fuse_sequence(node: Stmt) -> Stmt:
    if not isinstance(node, Seq):
        return node
    done: list[Stmt] = []
    for part in flat(node):
        done.append(part)
        while len(done) > 1 and (joint := _join(done[-2], done[-1])) is not None:
            done[-2:] = [joint]
    return dataclasses.replace(node, body=tuple(done))


# -- joining two loops


def _join(first: Stmt, second: Stmt) -> ParallelFor | None:
    """Both loops as one, where the second reads a tile that the first writes; None where that would change what they do."""
    if not isinstance(first, ParallelFor) or not isinstance(second, ParallelFor):
        return None
    if len(first.extents) != len(second.extents) or not all(m is n for m, n in zip(first.extents, second.extents, strict=True)):
        return None
    if not all(isinstance(inner, _JOINABLE) for loop in (first, second) for inner in statements(loop.body)):
        return None
    follower = substitute(second.body, dict(zip(second.variables, first.variables, strict=True)))
    before, after = Accesses(first.body), Accesses(follower)
    if not any(b.scope is not Scope.GLOBAL and b in after.read for b in before.written):
        return None
    if not all(is_element_by_element(buffer, before, after, first.variables) for buffer in (*before.buffers, *after.buffers)):
        return None
    return dataclasses.replace(first, body=forward_elements(Seq(first.span, (*flat(first.body), *flat(follower)))))


# -- handing elements over in registers


def forward_elements(body: Seq) -> Seq:
    """Reads of an element that the same turn has just stored take the value that was stored."""
    made: list[Stmt] = []
    values: dict[Expr, Expr] = {}  # element -> what it holds
    parts = body.body
    for position, part in enumerate(parts):
        part = _replaced(part, values)
        if not isinstance(part, Store):
            made.append(part)
            _drop(values, [inner.buffer.storage for inner in statements(part) if isinstance(inner, Store)])
            continue
        element = load(part.buffer, part.indices)
        _drop(values, [part.buffer.storage])
        uses = sum(_count(later, element) for later in parts[position + 1 :])
        if part.buffer.scope is Scope.GLOBAL or not uses:
            made.append(part)
            continue
        if uses == 1 and not _is_overtaken(part.value, element, parts[position + 1 :]):
            values[element] = part.value
        else:
            name = part.value if part.value.op in (Op.VAR, Op.CONST) else var(part.buffer.name, part.value.dtype)
            if name is not part.value:
                made.append(Let(part.span, name, part.value))
                part = dataclasses.replace(part, value=name)
            values[element] = name
        made.append(part)
    return dataclasses.replace(body, body=tuple(made))


def _replaced(node: Stmt, values: dict[Expr, Expr]) -> Stmt:
    if not values:
        return node
    memo: dict[Expr, Expr] = {}
    return rewrite(node, on_expr=lambda e: rewrite_expr(e, lambda x: values.get(x, x), memo))


def _drop(values: dict[Expr, Expr], written: Sequence[Buffer]) -> None:
    for element in [e for e in values if any(e.buffer.storage is b for b in written)]:
        del values[element]


def _count(node: Stmt, element: Expr) -> int:
    return sum(inner is element for part in statements(node) for e in own_expressions(part) for inner in subexpressions(e))


def _is_overtaken(value: Expr, element: Expr, later: Sequence[Stmt]) -> bool:
    """Whether something that a value loads is written before its element is read, by the store of the value itself or later."""
    loaded = {n.buffer.storage for n in subexpressions(value) if n.op is Op.LOAD}
    if element.buffer.storage in loaded:
        return True
    for part in later:
        if _count(part, element):
            return not isinstance(part, Store) and any(isinstance(s, Store) and s.buffer.storage in loaded for s in statements(part))
        if any(isinstance(s, Store) and (s.buffer.storage in loaded or s.buffer.storage is element.buffer.storage) for s in statements(part)):
            return True
    return False


# -- reductions of what a loop has just computed


def _reduce_values(node: Stmt, once: frozenset[Buffer]) -> Stmt:
    """A loop that fills a tile for one reduction and nothing else goes into the reduction; `once` are tiles with a single read."""
    if not isinstance(node, Seq):
        return node
    done: list[Stmt] = []
    for part in node.body:
        joint = _into_reduction(done[-1], part, once) if done else None
        if joint is None:
            done.append(part)
        else:
            done[-1] = joint
    return node if len(done) == len(node.body) else dataclasses.replace(node, body=tuple(done))


def _into_reduction(first: Stmt, second: Stmt, once: frozenset[Buffer]) -> Stmt | None:
    if not isinstance(first, ParallelFor) or not isinstance(second, ParallelFor) or not isinstance(first.body, (Store, Seq)):
        return None
    filling = flat(first.body)
    if len(filling) != 1 or not isinstance(filling[0], Store):
        return None
    fill = filling[0]
    if fill.buffer.scope is Scope.GLOBAL or fill.buffer not in once or len(fill.indices) != len(first.variables):
        return None
    if not all(i is v for i, v in zip(fill.indices, first.variables, strict=True)):
        return None
    target = next((s for s in flat(second.body) if isinstance(s, ReduceLoop)), None)
    read = next((e for e in subexpressions(target.value) if e.op is Op.LOAD and e.buffer is fill.buffer), None) if target is not None else None
    if target is None or read is None:
        return None
    # The reduction must read exactly the box that the loop fills, one element per turn.
    extent_of = dict(zip(second.variables, second.extents, strict=True)) | {target.axis: target.extent}
    if len(extent_of) != len(read.args) or not all(extent_of.get(i) is n for i, n in zip(read.args, first.extents, strict=True)):
        return None
    loaded = {e.buffer.storage for e in subexpressions(fill.value) if e.op is Op.LOAD}
    if not loaded.isdisjoint(b.storage for s in statements(second) if isinstance(s, Store) for b in (s.buffer,)) or not is_pure(fill.value):
        return None
    value = substitute_expr(fill.value, dict(zip(first.variables, read.args, strict=True)))
    return rewrite(second, on_expr=lambda e: rewrite_expr(e, lambda x: value if x is read else x))


def _read_counts(body: Stmt) -> dict[Buffer, int]:
    """How many places read each tile; statements that name one count as several."""
    counts: dict[Buffer, int] = {}
    for node in statements(body):
        if not isinstance(node, Store):
            named = [item for value in vars(node).values() for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Buffer)]
            for buffer in named:
                counts[buffer.storage] = counts.get(buffer.storage, 0) + 2
        for expression in own_expressions(node):
            for inner in subexpressions(expression):
                if inner.op is Op.LOAD:
                    counts[inner.buffer.storage] = counts.get(inner.buffer.storage, 0) + 1
    return counts


# -- tiles that nobody reads


def without_unread_tiles(body: Stmt, views: frozenset[Buffer]) -> Stmt:
    """Stores into tiles that are read nowhere are left out, and names that nobody uses; again, until nothing changes."""
    while True:
        read: set[Buffer] = set()
        used: set[Expr] = set()
        for node in statements(body):
            named = list(buffers_of(node))
            if not isinstance(node, Store):
                read.update(b.storage for b in named)
            for expression in (node.value,) if isinstance(node, Let) else own_expressions(node):
                for inner in subexpressions(expression):
                    if inner.op is Op.LOAD:
                        read.add(inner.buffer.storage)
                        named.append(inner.buffer)
                    elif inner.op is Op.VAR:
                        used.add(inner)
            # Where a tensor over a raw address lies, and how, may have been computed by the kernel.
            for where in (e for b in named for e in (b.storage.pointer, *b.shape, *(b.given_strides or ())) if isinstance(e, Expr)):
                used.update(v for v in subexpressions(where) if v.op is Op.VAR)

        def kept(node: Stmt, read: set[Buffer] = read, used: set[Expr] = used) -> Stmt | None:
            match node:
                case Store():
                    is_dead = node.buffer.scope is not Scope.GLOBAL and node.buffer.storage not in read and node.buffer.storage not in views
                case Let():
                    is_dead = node.variable not in used and is_pure(node.value)
                case ParallelFor():
                    is_dead = _is_empty(node.body)
                case If():
                    is_dead = _is_empty(node.then_body) and (node.else_body is None or _is_empty(node.else_body)) and is_pure(node.condition)
                case _:
                    is_dead = False
            return None if is_dead else node

        smaller = rewrite(body, post=kept)
        if smaller is body:
            return body
        body = smaller


def _is_empty(node: Stmt) -> bool:
    return isinstance(node, Seq) and not node.body
