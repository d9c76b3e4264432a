"""Lets a product overwrite its accumulator (floor 5), where a clear before it, or before the loop it stands in, is all that the accumulator held.

Writing zeros, and reading them back in the first step, costs two passes over the accumulator that a product can do without.
"""

from __future__ import annotations

import dataclasses
from typing import TypeGuard

from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Op as ExprOp
from tilewright.ir.expr import binary, const
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import For, Seq, Stmt
from tilewright.ir.visit import rewrite, statements
from tilewright.ops.fill import Fill
from tilewright.ops.gemm import Gemm
from tilewright.passes.context import PassContext
from tilewright.passes.walk import buffers_of, may_leave_loop, viewed_tiles


def fold_clear(program: Program, context: PassContext) -> Program:
    """Replaces `clear; gemm` by `gemm(clear_accum=True)`, and `clear; for k: gemm` by `for k: gemm(clear_accum=(k == 0))`."""
    return dataclasses.replace(program, launches=tuple(map(_fold_launch, program.launches)))


def _fold_launch(launch: Launch) -> Launch:
    viewed = viewed_tiles(launch)
    return dataclasses.replace(launch, body=rewrite(launch.body, post=lambda stmt: _fold(stmt, viewed) if isinstance(stmt, Seq) else stmt))


def _fold(stmt: Seq, viewed: frozenset[Buffer]) -> Seq:
    body = list(stmt.body)
    for position, fill in enumerate(stmt.body):
        if isinstance(fill, Fill) and fill.value.is_const and fill.value.value == 0 and fill.dst.is_whole and fill.dst.buffer not in viewed:
            folded = _folded(fill, body[position + 1 :])
            if folded is not None:
                offset, made = folded
                body[position + 1 + offset] = made
                body[position] = Seq(fill.span, ())
    kept = tuple(s for s in body if not (isinstance(s, Seq) and not s.body))
    return stmt if len(kept) == len(stmt.body) else Seq(stmt.span, kept)


def _folded(fill: Fill, rest: list[Stmt]) -> tuple[int, Stmt] | None:
    """The product or loop that follows, with its first product overwriting; None where something else may see the zeros."""
    tile = fill.dst.buffer
    for offset, stmt in enumerate(rest):
        if may_leave_loop(stmt):
            return None  # what follows the loop around it may see the zeros
        if not any(tile in buffers_of(inner) for inner in statements(stmt)):
            continue
        if _only_adds_to(stmt, tile):
            return offset, dataclasses.replace(stmt, clear=const(True))
        if not isinstance(stmt, For) or not stmt.extent.is_const or stmt.extent.value < 1:
            return None
        body = stmt.body.body if isinstance(stmt.body, Seq) else (stmt.body,)
        first = next(k for k, inner in enumerate(body) if any(tile in buffers_of(s) for s in statements(inner)))
        product = body[first]
        if any(map(may_leave_loop, body[:first])):
            return None  # the turn that clears may not reach the product
        if not _only_adds_to(product, tile):
            return None
        clear = const(True) if stmt.extent.value == 1 else binary(ExprOp.EQ, stmt.variable, const(0, stmt.variable.dtype))
        made = (*body[:first], dataclasses.replace(product, clear=clear), *body[first + 1 :])
        return offset, dataclasses.replace(stmt, body=Seq(stmt.body.span, made))
    return None


def _only_adds_to(stmt: Stmt, tile: Buffer) -> TypeGuard[Gemm]:
    """Whether the statement is a product that adds to all of the tile and does not read it otherwise."""
    return (
        isinstance(stmt, Gemm)
        and stmt.c.buffer is tile
        and stmt.c.is_whole
        and tile not in (stmt.a.buffer, stmt.b.buffer)
        and stmt.clear.is_const
        and not stmt.clear.value
    )
