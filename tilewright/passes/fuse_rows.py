"""Runs neighbouring loops over the same rows row by row, so that a row stays in the first-level cache from step to step (floor 5).

    for i, j: t[i, j] = f(X[i, j])          for i:
    for i: m[i] = sum(t[i, r] for r)   ->       m[0] = sum(v for r, where v = f(X[i, r]) and t[0, r] = v)
    for i, j: Y[i, j] = t[i, j] / m[i]          for j: Y[i, j] = t[0, j] / m[0]

Within a row, a reduction takes in the loop that computes what it combines, and a tile that only the rows of one such loop use shrinks to one row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, const, load, var
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Assume, For, If, Let, LoopKind, ParallelFor, Prefetch, ReduceLoop, Seq, Stmt, Store
from tilewright.ir.tileop import Storage
from tilewright.ir.visit import own_expressions, rewrite, rewrite_expr, statements, subexpressions, substitute, substitute_expr
from tilewright.passes.accesses import Accesses, flat, is_element_by_element, is_injective, is_pure
from tilewright.passes.context import PassContext
from tilewright.passes.fuse_loops import forward_elements, without_unread_tiles
from tilewright.passes.walk import buffers_of, viewed_tiles

_ROW_STATEMENTS = (Seq, Let, Store, If, Assume, ReduceLoop, ParallelFor)
# Shorter rows are a few vectors: loops over all of them at once have less to do per row.
_SHORTEST_ROW = 64
# From this length on a function call or division that is done for one row at a time, and not for a vector of rows, no longer counts.
_LONG_ROW = 512


def fuse_rows(program: Program, context: PassContext) -> Program:
    """Rearranges every launch; the program must hold no tile operation."""
    return dataclasses.replace(program, launches=tuple(_fuse_launch(launch, context) for launch in program.launches))


def _fuse_launch(launch: Launch, context: PassContext) -> Launch:
    views = viewed_tiles(launch)
    body = without_dead_stores(launch.body, views)
    rows: list[For] = []
    fixed = _fixed_tensors(body)

    def grouped(node: Stmt) -> Stmt:
        return _group(node, views, rows, fixed) if isinstance(node, Seq) else node

    made = without_unread_tiles(rewrite(body, post=grouped), views)
    if not rows:
        return launch if made is launch.body else dataclasses.replace(launch, body=made)
    return _shrink_tiles(dataclasses.replace(launch, body=made), {loop.variable for loop in rows}, views, context)


# -- stores that nobody reads any more


def without_dead_stores(body: Stmt, views: frozenset[Buffer]) -> Stmt:
    """Leaves out stores of parallel loops into tiles that nothing reads from there to the end of the block."""
    if not isinstance(body, Seq):
        return body
    read_later: set[Buffer] = set(views)
    made: list[Stmt] = []
    for part in reversed(flat(body)):
        if isinstance(part, ParallelFor):
            part = dataclasses.replace(part, body=_live_part(part.body, set(read_later)))
        made.append(part)
        read_later |= _read(part)
    return dataclasses.replace(body, body=tuple(reversed(made)))


def _live_part(body: Stmt, read_later: set[Buffer]) -> Stmt:
    """One turn: its statements run in order, and no other turn sees its elements."""
    live: list[Stmt] = []
    for part in reversed(flat(body)):
        if isinstance(part, Store) and part.buffer.scope is not Scope.GLOBAL and part.buffer.storage not in read_later:
            continue
        live.append(part)
        read_later |= _read(part)
    return Seq(body.span, tuple(reversed(live)))


def _read(node: Stmt) -> set[Buffer]:
    found: set[Buffer] = set()
    for inner in statements(node):
        if isinstance(inner, Store):
            found |= {e.buffer.storage for root in own_expressions(inner) for e in subexpressions(root) if e.op is Op.LOAD}
        else:
            found |= {b.storage for b in buffers_of(inner)}
    return found


def _fixed_tensors(body: Stmt) -> frozenset[Buffer]:
    """The tensors that a launch only reads element by element; none where it writes through a raw pointer, which may lead anywhere."""
    named = {
        item.storage
        for node in statements(body)
        for value in vars(node).values()
        for item in (value if isinstance(value, tuple) else (value,))
        if isinstance(item, Buffer)
    }
    if any(b.pointer is not None for b in named):
        return frozenset()
    return frozenset(b for b in _read(body) if b.scope is Scope.GLOBAL and b.pointer is None and b not in named)


# -- groups of loops over the same rows


@dataclass(frozen=True, eq=False)
class _Loop:
    """A parallel loop as a candidate: what it touches, and whether it goes through rows or has one element for each."""

    node: ParallelFor
    accesses: Accesses
    is_long: bool
    is_heavy: bool

    @staticmethod
    def of(node: Stmt) -> _Loop | None:
        if not isinstance(node, ParallelFor) or not all(isinstance(inner, _ROW_STATEMENTS) for inner in statements(node.body)):
            return None
        if not all(is_pure(e) for inner in statements(node.body) for e in own_expressions(inner)):
            return None
        inner_extents = [*node.extents[1:], *(s.extent for s in statements(node.body) if isinstance(s, ReduceLoop))]
        if not all(n.is_const for n in (node.extents[0], *inner_extents)) or any(isinstance(s, ParallelFor) for s in statements(node.body)):
            return None
        lengths = [int(n.value) for n in inner_extents]
        if lengths and lengths[-1] < _SHORTEST_ROW:
            return None
        accesses = Accesses(node.body)
        if any(b.pointer is not None for b in accesses.buffers):
            return None
        expressions = [e for inner in statements(node.body) for root in own_expressions(inner) for e in subexpressions(root)]
        is_heavy = any(e.op is Op.CALL or (e.op is Op.DIV and not e.args[1].is_const) for e in expressions)
        return _Loop(node, accesses, bool(lengths), is_heavy)

    def row_axis(self, buffer: Buffer) -> int | None:
        """The axis of a buffer along which every turn of the first variable has a place of its own; None where there is no such one."""
        row = self.node.variables[0]
        axes: set[int | None] = set()
        for element in self.accesses.elements.get(buffer, ()):
            moving = [axis for axis, index in enumerate(element.args) if any(v is row for v in subexpressions(index))]
            axes.add(moving[0] if len(moving) == 1 and element.args[moving[0]] is row and element.buffer is buffer else None)
        return axes.pop() if len(axes) == 1 else None

    def is_along_rows(self) -> bool:
        """Nothing is walked across its rows: where an element moves within a row, its last index does not move from row to row."""
        row = self.node.variables[0]
        inner = {*self.node.variables[1:], *(s.axis for s in statements(self.node.body) if isinstance(s, ReduceLoop))}
        for element in (e for elements in self.accesses.elements.values() for e in elements):
            variables = [set(subexpressions(index)) for index in element.args]
            if variables and row in variables[-1] and not all(inner.isdisjoint(v) for v in variables):
                return False
        return True


def _are_apart(a: _Loop, b: _Loop) -> bool:
    """Whether two loops may change places."""
    return not any(x in b.accesses.buffers for x in a.accesses.written) and not any(x in a.accesses.buffers for x in b.accesses.written)


def _can_share_rows(a: _Loop, b: _Loop) -> bool:
    """Whether a row of `b` may run before later rows of `a`: they meet in nothing that either writes but the same row."""
    shared = {x for x in a.accesses.buffers if x in b.accesses.buffers and (x in a.accesses.written or x in b.accesses.written)}
    return all(x.scope is not Scope.GLOBAL and a.row_axis(x) is not None and a.row_axis(x) == b.row_axis(x) for x in shared)


class _Group:
    """Loops that become one loop over rows, and short ones that stand between them and may run later."""

    def __init__(self, first: _Loop) -> None:
        self.members, self.waiting = [first], list[_Loop]()

    def takes(self, loop: _Loop) -> bool:
        """Adds a loop where that is possible and worth it."""
        if loop.node.extents[0] is not self.members[0].node.extents[0]:
            return False
        if not loop.is_long:
            self.waiting.append(loop)
            return True
        needed = [] if all(_are_apart(w, loop) for w in self.waiting) else self.waiting
        length = loop.node.extents[-1] if len(loop.node.extents) > 1 else None
        is_long = length is None or int(length.value) >= _LONG_ROW
        if needed and not is_long and any(w.is_heavy for w in needed):
            return False
        made = [*self.members, *needed, loop]
        for position, later in enumerate(made):
            if position >= len(self.members) and not all(_can_share_rows(earlier, later) for earlier in made[:position]):
                return False
        if not loop.is_along_rows() or not any(b in loop.accesses.buffers for m in (*self.members, *needed) for b in m.accesses.written):
            return False
        self.members = made
        self.waiting = [] if needed else self.waiting
        return True

    def statements(self, rows: list[For], fixed: frozenset[Buffer]) -> list[Stmt]:
        """The loop over rows, where there are several members, and what waits behind it."""
        behind: list[Stmt] = [w.node for w in self.waiting]
        if len(self.members) == 1:
            return [self.members[0].node, *behind]
        first = self.members[0].node
        row = var(first.variables[0].name, first.variables[0].dtype)
        steps: list[Stmt] = []
        for member in self.members:
            node = member.node
            body = substitute(node.body, {node.variables[0]: row})
            steps += flat(body) if len(node.variables) == 1 else [ParallelFor(node.span, node.variables[1:], node.extents[1:], body)]
        steps = _fetching_ahead(_computing_again(_with_computing_reductions(steps), fixed), row)
        loop = For(first.span, row, first.extents[0], LoopKind.SERIAL, Seq(first.span, tuple(steps)))
        rows.append(loop)
        return [loop, *behind]


def _group(node: Seq, views: frozenset[Buffer], rows: list[For], fixed: frozenset[Buffer]) -> Stmt:
    made: list[Stmt] = []
    group: _Group | None = None
    for part in flat(node):
        loop = _Loop.of(part)
        if loop is not None and not views.isdisjoint(loop.accesses.buffers):
            loop = None
        if loop is not None and group is not None and group.takes(loop):
            continue
        if group is not None:
            made += group.statements(rows, fixed)
        group = _Group(loop) if loop is not None and loop.is_long and loop.is_along_rows() else None
        if group is None:
            made.append(part)
    if group is not None:
        made += group.statements(rows, fixed)
    return dataclasses.replace(node, body=tuple(made))


# -- within a row


def _with_computing_reductions(steps: list[Stmt]) -> list[Stmt]:
    """Loops whose elements the next reduction combines become part of it."""
    made: list[Stmt] = []
    for step in steps:
        joint = _into_reduction(made[-1], step) if made else None
        if joint is None:
            made.append(step)
        else:
            made[-1] = joint
    return made


def _into_reduction(loop: Stmt, reduction: Stmt) -> ReduceLoop | None:
    if not isinstance(loop, ParallelFor) or not isinstance(reduction, ReduceLoop) or reduction.body is not None:
        return None
    if len(loop.variables) != 1 or loop.extents[0] is not reduction.extent or any(isinstance(s, ReduceLoop) for s in statements(loop.body)):
        return None
    axis = reduction.axis
    body = substitute(loop.body, {loop.variables[0]: axis})
    value = Let(reduction.span, var("combined", reduction.value.dtype), reduction.value)
    before, after = Accesses(body), Accesses(value)
    if not any(b in after.read for b in before.written) or not all(is_element_by_element(b, before, after, (axis,)) for b in (*before.buffers, *after.buffers)):
        return None
    if any(e.op is Op.LOAD and e.buffer.storage in before.written for e in subexpressions(reduction.initial)):
        return None
    joint = forward_elements(Seq(reduction.span, (*flat(body), value)))
    last = joint.body[-1]
    assert isinstance(last, Let)
    return dataclasses.replace(reduction, value=last.value, body=dataclasses.replace(joint, body=joint.body[:-1]))


# -- computing again instead of keeping


@dataclass(frozen=True, eq=False)
class _Kept:
    """What a loop over a row has stored in a tile: `value` at `element`, for every value of `axis` below `extent`."""

    element: Expr
    axis: Expr
    extent: Expr
    value: Expr


def _computing_again(steps: list[Stmt], fixed: frozenset[Buffer]) -> list[Stmt]:
    """Reads of a row that takes next to nothing to compute compute it again: its inputs are still in the cache, and the tile need not be.

    `fixed` are the tensors that the launch does not write.
    """
    made: list[Stmt] = []
    kept: dict[Buffer, _Kept] = {}
    for step in steps:
        axis, extent = _axis(step)
        if axis is not None and kept:
            step = _reading_again(step, axis, extent, kept)
        written = _written(step)
        for buffer in [b for b, k in kept.items() if b in written or any(x in written for x in _loaded(k.value))]:
            del kept[buffer]
        if axis is not None:
            kept |= _cheap_rows(step, axis, extent, written, fixed)
        made.append(step)
    return made


def _axis(step: Stmt) -> tuple[Expr | None, Expr | None]:
    match step:
        case ParallelFor() if len(step.variables) == 1:
            return step.variables[0], step.extents[0]
        case ReduceLoop():
            return step.axis, step.extent
    return None, None


def _reading_again(step: Stmt, axis: Expr, extent: Expr | None, kept: Mapping[Buffer, _Kept]) -> Stmt:
    written = _written(step)
    values = {
        buffer: (substitute_expr(k.element, {k.axis: axis}), substitute_expr(k.value, {k.axis: axis}))
        for buffer, k in kept.items()
        if k.extent is extent and _loaded(k.value).isdisjoint(written)
    }
    everywhere = dict(pair for buffer, pair in values.items() if buffer not in written)
    step = _with_values(step, everywhere)
    if len(everywhere) == len(values) or not isinstance(step, (ParallelFor, ReduceLoop)) or step.body is None:
        return step
    # Of a tile that the turn itself stores to, only what is read before that.
    parts = flat(step.body)
    for buffer, pair in values.items():
        if pair[0] not in everywhere:
            first = next(n for n, part in enumerate(parts) if buffer in _written(part))
            count = first + isinstance(parts[first], Store)
            parts = [_with_values(part, dict([pair])) if n < count else part for n, part in enumerate(parts)]
    return dataclasses.replace(step, body=Seq(step.body.span, tuple(parts)))


def _with_values(node: Stmt, values: Mapping[Expr, Expr]) -> Stmt:
    memo: dict[Expr, Expr] = {}
    return rewrite(node, on_expr=lambda e: rewrite_expr(e, lambda x: values.get(x, x), memo)) if values else node


def _cheap_rows(step: Stmt, axis: Expr, extent: Expr | None, written: set[Buffer], fixed: frozenset[Buffer]) -> dict[Buffer, _Kept]:
    """The tiles into which every turn of a loop puts something that is cheap to compute again."""
    found: dict[Buffer, _Kept] = {}
    body = step.body if isinstance(step, (ParallelFor, ReduceLoop)) else None
    named: dict[Expr, Expr] = {}
    for part in flat(body) if body is not None else ():
        if isinstance(part, Let):
            named[part.variable] = substitute_expr(part.value, named)
        elif isinstance(part, Store) and extent is not None and part.buffer.scope is not Scope.GLOBAL:
            value = substitute_expr(part.value, named)
            is_alone = sum(isinstance(s, Store) and s.buffer is part.buffer for s in statements(step)) == 1
            is_stable = all(b in fixed if b.scope is Scope.GLOBAL else b not in written for b in _loaded(value))
            if is_alone and is_stable and is_injective(part.indices, (axis,)) and _is_cheap(value, axis):
                found[part.buffer] = _Kept(load(part.buffer, part.indices), axis, extent, value)
    return found


def _loaded(value: Expr) -> set[Buffer]:
    return {e.buffer.storage for e in subexpressions(value) if e.op is Op.LOAD}


def _is_cheap(value: Expr, axis: Expr) -> bool:
    """At most two operations on elements that lie side by side, or are the same for the whole row."""
    operations = 0
    stack = [value]
    while stack and operations <= 2:
        node = stack.pop()
        match node.op:
            case Op.CALL | Op.DIV | Op.FLOORDIV | Op.FLOORMOD:
                return False
            case Op.LOAD:
                if not _is_in_order(node, axis):
                    return False
            case Op.IF_THEN_ELSE:  # a guard: it is asked once per row
                stack += node.args[1:]
            case _:
                operations += bool(node.args)
                stack += node.args
    return operations <= 2


def _is_in_order(access: Expr, axis: Expr) -> bool:
    moving = [index for index in access.args if any(v is axis for v in subexpressions(index))]
    strides = access.buffer.strides
    is_last = len(moving) == 1 and moving[0] is access.args[-1] and (strides is None or (isinstance(strides[-1], int) and strides[-1] == 1))
    return (not moving or (is_last and is_injective(moving, (axis,)))) and not any(
        inner.op is Op.LOAD for index in access.args for inner in subexpressions(index)
    )


# -- the next row


def _fetching_ahead(steps: list[Stmt], row: Expr) -> list[Stmt]:
    """The second loop over a row asks for what the first one will read of the next row: caches fetch ahead by themselves within a row at most."""
    loops = [n for n, step in enumerate(steps) if _axis(step)[0] is not None]
    if len(loops) < 2:
        return steps
    first, second = steps[loops[0]], steps[loops[1]]
    (axis, extent), (place, length) = _axis(first), _axis(second)
    if extent is not length or axis is None or place is None:
        return steps
    ahead: dict[Expr, None] = {}
    for element in (e for elements in Accesses(first).elements.values() for e in elements):
        moving = [index for index in element.args[:-1] if any(v is row for v in subexpressions(index))]
        is_along = is_injective(element.args[-1:], (axis,)) and not any(v is axis for index in element.args[:-1] for v in subexpressions(index))
        if element.buffer.scope is Scope.GLOBAL and moving and is_along and not any(e.op is Op.LOAD for index in element.args for e in subexpressions(index)):
            ahead[substitute_expr(element, {row: row + 1, axis: place})] = None
    hints = tuple(Prefetch(second.span, element.buffer, element.args) for element in ahead)
    if not hints or not isinstance(second, (ParallelFor, ReduceLoop)):
        return steps
    body = Seq(second.span, (*(flat(second.body) if second.body is not None else ()), *hints))
    return [dataclasses.replace(step, body=body) if step is second else step for step in steps]


# -- tiles of which one row is enough


def _shrink_tiles(launch: Launch, rows: set[Expr], views: frozenset[Buffer], context: PassContext) -> Launch:
    """Tiles that are used in one loop over rows alone, which runs once per block, keep one row: what another row left in them is never read."""
    loops = [part for part in flat(launch.body) if isinstance(part, For) and part.variable in rows]
    smaller: dict[Buffer, Buffer] = {}
    for loop in loops:
        outside = {b for part in flat(launch.body) if part is not loop for b in _read(part) | _written(part)}
        for buffer in launch.buffers:
            is_candidate = buffer.scope is not Scope.GLOBAL and buffer.source is None and buffer.pointer is None and buffer not in views
            plan = context.plans.get(buffer)
            if not is_candidate or buffer in outside or buffer.rank == 0 or buffer.shape[0] == 1 or (plan is not None and plan.storage is Storage.PANELS):
                continue
            accesses = Accesses(loop.body).elements.get(buffer, {})
            if accesses and all(e.args[0] is loop.variable for e in accesses):
                smaller[buffer] = dataclasses.replace(buffer, shape=(1, *buffer.shape[1:]))
                if plan is not None:
                    context.plans[smaller[buffer]] = plan
    if not smaller:
        return launch
    memo: dict[Expr, Expr] = {}

    def moved(node: Expr) -> Expr:
        return load(smaller[node.buffer], (const(0), *node.args[1:])) if node.op is Op.LOAD and node.buffer in smaller else node

    def stored(node: Stmt) -> Stmt:
        if isinstance(node, Store) and node.buffer in smaller:
            return dataclasses.replace(node, buffer=smaller[node.buffer], indices=(const(0), *node.indices[1:]))
        return node

    body = rewrite(launch.body, on_expr=lambda e: rewrite_expr(e, moved, memo), post=stored)
    return dataclasses.replace(launch, body=body, buffers=tuple(smaller.get(b, b) for b in launch.buffers))


def _written(node: Stmt) -> set[Buffer]:
    return {inner.buffer.storage for inner in statements(node) if isinstance(inner, Store)}
