"""Gives products, reductions and scans the kinds of tiles that a GPU does them on (floor 5).

A product accumulates in a whole fragment, takes its second operand from shared memory and its first from there or from a whole fragment. A reduction and
a scan go from a whole fragment to a whole fragment, but a scan of a tile elsewhere of which each thread has rows of its own goes from shared memory to shared
memory. Everything else is copied there before and back after.
"""

from __future__ import annotations

import dataclasses
import math

from tilewright.dtypes import DType
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Region, Scope, whole
from tilewright.ir.program import HintKind, Launch, Program
from tilewright.ir.stmt import Seq, Stmt
from tilewright.ir.visit import rewrite
from tilewright.layout import LayoutAnnotation, TableLayout
from tilewright.ops.copy import match_tiles
from tilewright.ops.gemm import Gemm
from tilewright.ops.operand import may_overlap
from tilewright.ops.reduce import Reduce
from tilewright.ops.scan import Scan
from tilewright.passes.context import GpuPassContext
from tilewright.passes.scratch import Scratch

MOST_SCANNED_BITS = 96 * 32  # of a thread, beside whatever else it holds


def stage_operands(program: Program, context: GpuPassContext) -> Program:
    """Adds the copies; tile operations stay tile operations."""
    given = {h.values[0]: h.values[1] for h in program.hints if h.kind is HintKind.LAYOUT}
    tables = frozenset(b for b, a in given.items() if isinstance(a, LayoutAnnotation) and isinstance(a.memory, TableLayout))
    return dataclasses.replace(program, launches=tuple(_stage_launch(launch, tables) for launch in program.launches))


def _stage_launch(launch: Launch, tables: frozenset[object]) -> Launch:
    staging = _Staging(math.prod(launch.threads), tables)
    body = rewrite(launch.body, post=staging.stmt)
    return dataclasses.replace(launch, body=body, buffers=(*launch.buffers, *staging.scratch.buffers))


def is_whole_fragment(region: Region) -> bool:
    """All of a fragment that is no view."""
    return region.buffer.scope is Scope.FRAGMENT and region.buffer.source is None and region.is_whole


class _Staging:
    """`tables` are tiles whose layout is no digit layout: products cannot load from them."""

    def __init__(self, num_threads: int, tables: frozenset[object]) -> None:
        self.num_threads, self.tables = num_threads, tables
        self.scratch = Scratch()

    def is_ready(self, region: Region) -> bool:
        """Whether a product can load an operand where it lies in shared memory."""
        return region.buffer.scope is Scope.SHARED and region.buffer.source is None and region.buffer not in self.tables

    def stmt(self, node: Stmt) -> Stmt:
        match node:
            case Gemm():
                return self.gemm(node)
            case Reduce() if all(isinstance(n, int) for n in node.src.extents) and node.src.buffer.scope is not Scope.LOCAL:
                return self.reduce(node)
            case Scan() if node.src.buffer.scope is not Scope.LOCAL:
                return self.scan(node)
        return node

    def fragment(self, name: str, dtype: DType, shape: tuple[int, ...], span: Span) -> Buffer:
        return self.scratch.make(name, dtype, shape, Scope.FRAGMENT, span)

    def gemm(self, op: Gemm) -> Stmt:
        m, n, _ = op.m_n_k
        before: list[Stmt] = []
        after: list[Stmt] = []
        a, b, c = op.a, op.b, op.c
        if not self.is_ready(a) and not (is_whole_fragment(a) and a.buffer.rank == 2):
            a = self.staged(a, "a_tile", op.span, before)
        if not self.is_ready(b):
            b = self.staged(b, "b_tile", op.span, before)
        if not is_whole_fragment(c) or c.buffer.rank != 2:
            held = whole(self.fragment("accumulator", c.dtype, (m, n), op.span))
            if not (op.clear.is_const and op.clear.value):
                before.append(match_tiles(c, held, False, op.span))
            after.append(match_tiles(held, c, False, op.span))
            c = held
        if not before and not after:
            return op
        return Seq(op.span, (*before, dataclasses.replace(op, a=a, b=b, c=c), *after))

    def staged(self, region: Region, name: str, span: Span, before: list[Stmt]) -> Region:
        """The last two axes of an operand, copied into shared memory."""
        shape = tuple(int(n) for n in region.extents[-2:])
        tile = whole(self.scratch.scratch(name, region.dtype, shape, span))
        before.append(match_tiles(region, tile, False, span))
        return tile

    def reduce(self, op: Reduce) -> Stmt:
        before: list[Stmt] = []
        after: list[Stmt] = []
        src, dst, axis, dst_axes = op.src, op.dst, op.axis, op.dst_axes
        if not is_whole_fragment(src):
            kept = [a for a in range(len(src.extents)) if src.is_slice[a]]
            held = whole(self.fragment("reduced_tile", src.dtype, tuple(int(src.extents[a]) for a in kept), op.span))
            before.append(match_tiles(src, held, False, op.span))
            src, axis, dst_axes = held, kept.index(axis), tuple(dst_axes[a] for a in kept)
        if not is_whole_fragment(dst):
            shape = tuple(int(n) for n in dst.extents)
            held = whole(self.fragment("reduced", dst.dtype, shape, op.span))
            if not op.clear:
                before.append(match_tiles(_as_slices(dst), held, False, op.span))
            after.append(match_tiles(held, _as_slices(dst), False, op.span))
            dst = held
        made = dataclasses.replace(op, src=src, dst=dst, axis=axis, dst_axes=dst_axes)
        return Seq(op.span, (*before, made, *after)) if before or after else op

    def scan(self, op: Scan) -> Stmt:
        src, dst = op.src, op.dst
        if not (is_whole_fragment(src) or is_whole_fragment(dst)) and not scans_in_registers(op, self.num_threads):
            return self.scan_in_shared_memory(op)
        sizes = tuple(int(n) for n in src.shape)
        before, after = [], []
        if not is_whole_fragment(dst):
            dst = whole(self.fragment("scanned", op.dst.dtype, sizes, op.span))
            after.append(match_tiles(dst, op.dst, False, op.span))
        if not is_whole_fragment(src):
            before.append(match_tiles(src, dst, False, op.span))
            src = dst
        return Seq(op.span, (*before, dataclasses.replace(op, src=src, dst=dst), *after)) if before or after else op

    def scan_in_shared_memory(self, op: Scan) -> Stmt:
        before: list[Stmt] = []
        after: list[Stmt] = []
        src, dst = op.src, op.dst
        sizes = tuple(int(n) for n in op.src.shape)
        is_apart = op.is_in_place or not may_overlap(src, dst)
        if src.buffer.scope is not Scope.SHARED or dst.buffer.scope is not Scope.SHARED or not is_apart:
            held = whole(self.scratch.scratch("scanned_tile", dst.dtype, sizes, op.span))
            before.append(match_tiles(src, held, False, op.span))
            after.append(match_tiles(held, dst, False, op.span))
            src = dst = held
        made = dataclasses.replace(op, src=src, dst=dst)
        return Seq(op.span, (*before, made, *after)) if before else op


def scans_in_registers(op: Scan, num_threads: int) -> bool:
    """Whether a tile outside registers is scanned in them: not where neighbouring threads have neighbouring rows already, nor where it is too large."""
    sizes = tuple(int(n) for n in op.src.shape)
    has_rows_for_all = op.axis < len(sizes) - 1 and math.prod(sizes) // sizes[op.axis] >= num_threads
    return not has_rows_for_all and math.prod(sizes) * max(32, op.dst.dtype.bits) <= num_threads * MOST_SCANNED_BITS


def _as_slices(region: Region) -> Region:
    """The region with every axis sliced, so that a copy takes its extents as they are."""
    return Region(region.buffer, region.starts, region.extents, (True,) * len(region.extents), region.span)
