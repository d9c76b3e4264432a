"""`T.async_copy`, `T.ptx_commit_group`, `T.ptx_wait_group`: copies from global to shared memory that go on while the block computes (floor 4; language.md 7.2).

Asynchronous copies belong to the group that the next commit closes. Groups land in the order of their commits; a wait names how many of the youngest may
still be under way. The wait makes a thread's own copies complete; the barrier that lets other threads read them is the compiler's.
Source: PTX ISA, "Data Movement and Conversion Instructions: Non-bulk copy" (cp.async, cp.async.commit_group, cp.async.wait_group).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from tilewright.errors import Kind, Label, Span, fail
from tilewright.intrin.nvidia.cp_async import CP_ASYNC_COMMIT_GROUP, CP_ASYNC_WAIT_ALL, CP_ASYNC_WAIT_GROUP
from tilewright.ir import build
from tilewright.ir.buffer import Region, Scope, format_shape
from tilewright.ir.expr import describe_operand
from tilewright.ir.stmt import Seq, Stmt
from tilewright.ir.thread import InstructionCall
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, ThreadContext, TileOp
from tilewright.ops.copy import match_tiles
from tilewright.ops.operand import as_region, fixed, has_extent
from tilewright.target.nvidia import Feature


@dataclass(frozen=True, eq=False)
class CommitGroup(TileOp):
    """Closes the group of the asynchronous copies since the last commit; a group may be empty."""

    def effects(self) -> Effects:
        return Effects()

    def reference(self, environment: ReferenceEnvironment) -> None:
        """Nothing: a copy is done when it is issued."""

    def lower(self, context: LoweringContext) -> Stmt:
        return Seq(self.span, ())

    def lower_to_threads(self, context: ThreadContext) -> Stmt:
        return InstructionCall(self.span, CP_ASYNC_COMMIT_GROUP, ()) if context.target.has(Feature.CP_ASYNC) else Seq(self.span, ())


@dataclass(frozen=True, eq=False)
class WaitGroup(TileOp):
    """Waits until at most `pending` groups, the youngest, are under way. Copies that no commit has closed belong to no group."""

    pending: int

    def effects(self) -> Effects:
        return Effects()

    def reference(self, environment: ReferenceEnvironment) -> None:
        """Nothing: a copy is done when it is issued."""

    def lower(self, context: LoweringContext) -> Stmt:
        return Seq(self.span, ())

    def lower_to_threads(self, context: ThreadContext) -> Stmt:
        if not context.target.has(Feature.CP_ASYNC):
            return Seq(self.span, ())
        if self.pending == 0:
            return InstructionCall(self.span, CP_ASYNC_WAIT_ALL, ())
        return InstructionCall(self.span, CP_ASYNC_WAIT_GROUP, (self.pending,))


def async_copy(src: Any, dst: Any, *, coalesced_width: int | None = None, annotations: Any = None, loop_layout: Any = None) -> None:
    """T.copy from a global tensor to a shared tile that is complete only after a T.ptx_wait_group; the hints never change the result.

    Raises TileError (copy-shape, scope) where the shapes cannot match, or an operand lies elsewhere.
    """
    builder = build.current()
    span = builder.here()
    source, target = as_region(src, "the source of T.async_copy", span), as_region(dst, "the destination of T.async_copy", span)
    _check_scope(source, Scope.GLOBAL, "source", span)
    _check_scope(target, Scope.SHARED, "destination", span)
    if not has_extent(source) and not has_extent(target):
        source = dataclasses.replace(source, is_slice=(True,) * source.buffer.rank)
        target = dataclasses.replace(target, is_slice=(True,) * target.buffer.rank)
    made = match_tiles(fixed(source), fixed(target), src is source.buffer and dst is target.buffer, span)
    builder.emit(dataclasses.replace(made, is_async=True))


def ptx_commit_group() -> None:
    """Closes a group: the asynchronous copies since the last one."""
    builder = build.current()
    builder.emit(CommitGroup(builder.here()))


def ptx_wait_group(pending: Any = 0) -> None:
    """Waits until at most `pending` of the youngest groups are under way. Raises TileError (option-value) where it is no int from 0 on."""
    builder = build.current()
    span = builder.here()
    if not isinstance(pending, int) or isinstance(pending, bool) or pending < 0:
        fail(
            Kind.OPTION_VALUE,
            f"T.ptx_wait_group was given {pending if isinstance(pending, int) else describe_operand(pending)}",
            span,
            because="how many groups may still be under way is part of the instruction: an int from 0 on",
            help="write T.ptx_wait_group(0) to wait for all copies",
        )
    builder.emit(WaitGroup(span, pending))


def _check_scope(region: Region, scope: Scope, what: str, span: Span) -> None:
    if region.buffer.scope is not scope:
        fail(
            Kind.SCOPE,
            f"the {what} of T.async_copy is {region.buffer.name}, a {region.buffer.scope.value} buffer",
            (Label(span), Label(region.buffer.span, f"{region.buffer.name}: {format_shape(region.buffer)}")),
            because="asynchronous copies go from global to shared memory",
            help="use T.copy, which goes between any two memories",
        )
