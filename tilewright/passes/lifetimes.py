"""How long the contents of a tile are needed (floor 5): whether a later statement, or a later turn of a loop, may read what is in it."""

from __future__ import annotations

from enum import Enum

from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Program
from tilewright.ir.stmt import AtomicUpdate, For, If, ParallelFor, Seq, Stmt, Store, While
from tilewright.ir.thread import AsyncRegion
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import inner_statements, own_expressions, statements, subexpressions
from tilewright.ops.copy import Copy
from tilewright.ops.fill import Fill
from tilewright.passes.context import GpuPassContext
from tilewright.passes.walk import buffers_of, may_leave_loop


def find_lifetimes(program: Program, context: GpuPassContext) -> Program:
    """Fills `context.carried` and `context.tile_loops` for each launch; the program stays as it is."""
    for launch in program.launches:
        context.tile_loops |= {s.variable for s in statements(launch.body) if isinstance(s, For)}
        for buffer in launch.buffers:
            if buffer.scope is Scope.SHARED and buffer.source is None:
                versions = context.versions.get(buffer)
                context.carried[buffer] = carried_by(launch.body, buffer) if versions is None else versions.carried
    return program


def carried_by(root: Stmt, tile: Buffer) -> frozenset[Expr]:
    """The variables of the loops from whose turns a tile may keep something that a later turn, or what follows the loop, reads."""
    loops = [s for s in statements(root) if isinstance(s, For) and touches(s.body, tile)]
    return frozenset(loop.variable for loop in loops if _is_needed_after_turn(root, loop, tile))


def _is_needed_after_turn(root: Stmt, loop: For, tile: Buffer) -> bool:
    touch = first_touch(loop.body, tile)
    return touch is Touch.USED or (touch is Touch.NOTHING and is_used_afterwards(root, loop, tile))


class Touch(Enum):
    """What happens first to the contents of a tile."""

    NOTHING = "nothing"  # or only a part is overwritten, or perhaps nothing
    OVERWRITTEN = "overwritten"  # all of it, for certain
    USED = "used"


def touches(root: Stmt, tile: Buffer) -> bool:
    """Whether a statement, or one inside it, names the memory of a tile."""
    return any(b.storage is tile for s in statements(root) for b in buffers_of(s))


def is_used_afterwards(root: Stmt, target: Stmt, tile: Buffer) -> bool:
    """Whether what a statement left in a tile may be read: by what follows it, or by a later turn of a loop around it."""
    path = _path_to(root, target)
    for outer, inner in zip(reversed(path[:-1]), reversed(path), strict=False):
        if isinstance(outer, Seq):
            position = next(k for k, s in enumerate(outer.body) if s is inner)
            touch = first_touch(Seq(outer.span, outer.body[position + 1 :]), tile)
        elif isinstance(outer, (For, While)):
            touch = first_touch(outer.body, tile)
            if isinstance(outer, While) and _loads(outer.condition, tile):
                touch = Touch.USED
            if touch is Touch.OVERWRITTEN:  # in the next turn, if there is one
                touch = Touch.NOTHING
        else:
            continue
        if touch is not Touch.NOTHING:
            return touch is Touch.USED
    return False


def _path_to(root: Stmt, target: Stmt) -> list[Stmt]:
    """The statements around `target`, outermost first, and itself; empty where it does not occur."""
    if root is target:
        return [root]
    for inner in inner_statements(root):
        path = _path_to(inner, target)
        if path:
            return [root, *path]
    return []


def first_touch(node: Stmt, tile: Buffer) -> Touch:
    """What a statement does first to what is in a tile before it."""
    if not touches(node, tile):
        return Touch.NOTHING
    if any(_loads(e, tile) for e in own_expressions(node)):
        return Touch.USED
    match node:
        case Seq():
            may_be_left = False
            for inner in node.body:
                touch = first_touch(inner, tile)
                if touch is Touch.USED or (touch is Touch.OVERWRITTEN and not may_be_left):
                    return touch
                may_be_left |= may_leave_loop(inner)
            return Touch.NOTHING
        case For() | While():
            inside = first_touch(node.body, tile)
            has_turn = isinstance(node, For) and node.extent.is_const and node.extent.value > 0
            return inside if inside is Touch.USED or has_turn else Touch.NOTHING
        case If():
            parts = [first_touch(part, tile) for part in (node.then_body, node.else_body or Seq(node.span, ()))]
            return Touch.USED if Touch.USED in parts else parts[0] if parts[0] is parts[1] else Touch.NOTHING
        case ParallelFor():
            if any(_first_of_statement(s, tile) is Touch.USED for s in statements(node.body)):
                return Touch.USED
            return Touch.OVERWRITTEN if any(_covers(node, s, tile) for s in _unconditional(node.body)) else Touch.NOTHING
        case AsyncRegion():
            return first_touch(node.body, tile)
        case Copy() if node.src.buffer.storage is not tile:
            return Touch.OVERWRITTEN if _fills(node) else Touch.NOTHING
        case Fill():
            return Touch.OVERWRITTEN if node.dst.is_whole else Touch.NOTHING
    return _first_of_statement(node, tile)


def _first_of_statement(node: Stmt, tile: Buffer) -> Touch:
    """What a statement itself does, inner ones aside: a store leaves what it does not overwrite, everything else may read what it names."""
    if any(_loads(e, tile) for e in own_expressions(node)):
        return Touch.USED
    if isinstance(node, Store):
        return Touch.NOTHING
    if isinstance(node, TileOp):
        effects = node.effects()
        is_read = any(r.buffer.storage is tile for r in (*effects.reads, *(effects.writes if effects.is_atomic else ())))
        return Touch.USED if is_read else Touch.NOTHING
    if isinstance(node, AtomicUpdate):
        return Touch.USED if node.buffer.storage is tile else Touch.NOTHING
    return Touch.USED if any(b.storage is tile for b in buffers_of(node)) else Touch.NOTHING


def _unconditional(body: Stmt) -> list[Stmt]:
    return [s for inner in body.body for s in _unconditional(inner)] if isinstance(body, Seq) else [body]


def _covers(loop: ParallelFor, store: Stmt, tile: Buffer) -> bool:
    """Whether the iterations of a loop store to every element of a tile: each axis has a variable of its own that runs over it."""
    if not isinstance(store, Store) or store.buffer.storage is not tile:
        return False
    extents = dict(zip(loop.variables, loop.extents, strict=True))
    left = set(loop.variables)
    for index, size in zip(store.indices, store.buffer.shape, strict=True):
        if index in left and extents[index].is_const and extents[index].value == size:
            left.remove(index)
        elif not (index.is_const and size == 1):
            return False
    return all(extents[v].is_const and extents[v].value > 0 for v in left)


def _fills(copy: Copy) -> bool:
    """Whether a copy writes every element of its destination."""
    along = [a for a in copy.dst_axes if a >= 0]
    if not all(e.is_const for e in copy.extents) or not all(s.is_const and s.value == 0 for s in copy.dst.starts) or len(set(along)) != len(along):
        return False
    return all(n == (1 if a < 0 else copy.extents[a].value) for a, n in zip(copy.dst_axes, copy.dst.buffer.shape, strict=True))


def _loads(root: Expr, tile: Buffer) -> bool:
    return any(node.op is Op.LOAD and node.buffer.storage is tile for node in subexpressions(root))
