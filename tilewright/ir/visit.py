"""Walking and rewriting programs, driven by the dataclass fields (floor 2). An unchanged subtree stays the same object."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from tilewright.ir.buffer import Buffer, Region
from tilewright.ir.expr import Expr, rebuild
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.stmt import AtomicUpdate, BlockReduce, For, Let, ParallelFor, ReduceLoop, Seq, Stmt, WarpExchange
from tilewright.ir.thread import Address, Registers

Node = TypeVar("Node")


@lru_cache(maxsize=256)
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind) if f.name != "span")


def _fields_of(node: Any) -> tuple[str, ...]:
    return _fields(type(node))  # type: ignore[arg-type]


def statements(node: Stmt) -> Iterator[Stmt]:
    """`node` and every statement inside it, in program order."""
    yield node
    for inner in inner_statements(node):
        yield from statements(inner)


def inner_statements(node: Stmt) -> Iterator[Stmt]:
    """The statements that stand directly in a statement."""
    for name in _fields_of(node):
        value = getattr(node, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Stmt):
                yield item


def own_expressions(node: Stmt) -> Iterator[Expr]:
    """The expressions that stand directly in a statement (not in its inner statements), buffers' pointers aside."""
    for name in _fields_of(node):
        yield from _in_value(getattr(node, name))


def _in_value(value: Any) -> Iterator[Expr]:
    if isinstance(value, Expr):
        yield value
    elif isinstance(value, Region):
        yield from value.starts
        yield from (n for n in value.extents if isinstance(n, Expr))
    elif isinstance(value, Address):
        yield from value.indices
    elif isinstance(value, Registers):
        yield value.offset
    elif isinstance(value, tuple):
        for item in value:
            yield from _in_value(item)


def names_made(node: Stmt) -> tuple[Expr, ...]:
    """Variables that a statement binds for the rest of its sequence."""
    if isinstance(node, Let):
        return (node.variable,)
    if isinstance(node, (BlockReduce, ReduceLoop, WarpExchange)):
        return (node.result,)
    if isinstance(node, AtomicUpdate) and node.previous is not None:
        return (node.previous,)
    if isinstance(node, ForeignCall) and node.result is not None:
        return (node.result,)
    return ()


def names_bound(node: Stmt) -> tuple[Expr, ...]:
    """Variables that a statement gives values to: for the rest of its sequence, or only within itself."""
    match node:
        case For():
            return (node.variable,)
        case ParallelFor():
            return node.variables
        case ReduceLoop():
            return node.result, node.axis
    return names_made(node)


def subexpressions(root: Expr) -> Iterator[Expr]:
    """`root` and everything below it, each node once, operands first."""
    if not root.args:
        yield root
        return
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args))


def rewrite_expr(root: Expr, post: Callable[[Expr], Expr], memo: dict[Expr, Expr] | None = None) -> Expr:
    """Rebuilds bottom-up: `post` maps each node whose operands are already rewritten."""
    memo = {} if memo is None else memo
    for node in subexpressions(root):
        if node not in memo:
            args = tuple(memo[a] for a in node.args)
            is_same = all(a is b for a, b in zip(args, node.args, strict=True))
            memo[node] = post(node if is_same else rebuild(node, args))
    return memo[root]


def substitute_expr(root: Expr, values: Mapping[Expr, Expr]) -> Expr:
    """Variables replaced by expressions."""
    return rewrite_expr(root, lambda node: values.get(node, node)) if values else root


def rewrite(
    node: Stmt,
    *,
    on_expr: Callable[[Expr], Expr] | None = None,
    on_buffer: Callable[[Buffer], Buffer] | None = None,
    post: Callable[[Stmt], Stmt | None] | None = None,
) -> Stmt:
    """Rebuilds a statement bottom-up.

    on_expr    maps every whole expression (use `rewrite_expr` inside to go into it).
    on_buffer  maps buffers that statements and regions name; loads inside expressions are `on_expr`'s.
    post       maps each rebuilt statement; None drops it.
    """

    def value(item: Any) -> Any:
        if isinstance(item, Expr):
            return on_expr(item) if on_expr else item
        if isinstance(item, Buffer):
            return on_buffer(item) if on_buffer else item
        if isinstance(item, Region):
            starts, extents, buffer = tuple(value(s) for s in item.starts), tuple(value(n) for n in item.extents), value(item.buffer)
            same = buffer is item.buffer and _same(starts, item.starts) and _same(extents, item.extents)
            return item if same else Region(buffer, starts, extents, item.is_slice, item.span)
        if isinstance(item, Address):
            indices, buffer = tuple(value(i) for i in item.indices), value(item.buffer)
            return item if buffer is item.buffer and _same(indices, item.indices) else Address(buffer, indices)
        if isinstance(item, Registers):
            offset, buffer = value(item.offset), value(item.buffer)
            return item if buffer is item.buffer and offset is item.offset else Registers(buffer, offset)
        if isinstance(item, Stmt):
            return rewrite(item, on_expr=on_expr, on_buffer=on_buffer, post=post)
        if isinstance(item, tuple):
            new = tuple(value(x) for x in item)
            return item if _same(new, item) else new
        return item

    changes = {}
    for name in _fields_of(node):
        old = getattr(node, name)
        new = value(old)
        if isinstance(node, Seq) and name == "body":
            new = tuple(s for s in new if not (isinstance(s, Seq) and not s.body))
            new = old if _same(new, old) else new
        if new is not old:
            changes[name] = new
    made = dataclasses.replace(node, **changes) if changes else node
    if post is None:
        return made
    result = post(made)
    return Seq(node.span, ()) if result is None else result


def replace_by_several(root: Stmt, several: Callable[[Stmt], Seq | None]) -> Stmt:
    """Replaces statements by sequences whose parts join the sequence around them, so that names made there hold for the rest of it."""
    made: set[Stmt] = set()

    def post(node: Stmt) -> Stmt:
        if isinstance(node, Seq) and not made.isdisjoint(node.body):
            parts = (inner.body if isinstance(inner, Seq) and inner in made else (inner,) for inner in node.body)
            return Seq(node.span, tuple(inner for part in parts for inner in part))
        found = several(node)
        if found is None:
            return node
        made.add(found)
        return found

    return rewrite(root, post=post)


def _same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


def substitute(node: Stmt, values: Mapping[Expr, Expr]) -> Stmt:
    """Variables replaced by expressions everywhere below `node`."""
    memo: dict[Expr, Expr] = {}
    return rewrite(node, on_expr=lambda e: rewrite_expr(e, lambda x: values.get(x, x), memo))
