"""Turns vector dtypes into scalars (floor 5): an element of float32x4 becomes four of float32, its lanes the last axis of the buffer.

Code generators of CPUs choose their own vectors along loops, so nothing is lost; they need not know values of several lanes. A value becomes one
scalar expression per lane. Afterwards the program holds no dtype of more than one lane.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Kind, Label, fail
from tilewright.ir.buffer import Buffer, Region
from tilewright.ir.expr import Expr, Op, binary, cast, const, load, rebuild, reinterpret, select, unary, var
from tilewright.ir.lanes import EXTRACT_LANE, PACK_LANES
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import Let, Print, Seq, Stmt, Store
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import own_expressions, rewrite, statements, subexpressions
from tilewright.ops.copy import Copy
from tilewright.ops.fill import Fill
from tilewright.passes.context import Remarks

Lanes = tuple[Expr, ...]


def split_lanes(program: Program, context: Remarks) -> Program:
    """The program without vector dtypes; the same object where it has none."""
    if not _has_vectors(program):
        return program
    split = _Split()
    parameters = tuple(dataclasses.replace(p, buffer=split.buffer(p.buffer)) if p.buffer is not None else p for p in program.parameters)
    launches = tuple(split.launch(launch) for launch in program.launches)
    return dataclasses.replace(program, parameters=parameters, launches=launches, workspaces=tuple(map(split.buffer, program.workspaces)))


def _has_vectors(program: Program) -> bool:
    buffers = [p.buffer for p in program.parameters if p.buffer is not None] + [*program.workspaces]
    if any(b.dtype.lanes > 1 for b in (*buffers, *(b for launch in program.launches for b in launch.buffers))):
        return True
    seen: set[Expr] = set()
    for launch in program.launches:
        for stmt in statements(launch.body):
            for root in own_expressions(stmt):
                if root not in seen:
                    found = list(subexpressions(root))
                    seen.update(found)
                    if any(node.dtype.lanes > 1 or (node.op is Op.LOAD and node.buffer.dtype.lanes > 1) for node in found):
                        return True
            if any(b.dtype.lanes > 1 for b in _buffers_of(stmt)):  # a view
                return True
    return False


def _buffers_of(stmt: Stmt) -> list[Buffer]:
    items = [i for value in vars(stmt).values() for i in (value if isinstance(value, tuple) else (value,))]
    return [i if isinstance(i, Buffer) else i.buffer for i in items if isinstance(i, (Buffer, Region))]


class _Split:
    """What stands for each buffer and each expression of the old program."""

    def __init__(self) -> None:
        self.buffers: dict[Buffer, Buffer] = {}
        self.known: dict[Expr, Lanes] = {}

    def launch(self, launch: Launch) -> Launch:
        safe_values = tuple((self.buffer(b), self.scalar(v)) for b, v in launch.safe_values)
        return dataclasses.replace(launch, buffers=tuple(map(self.buffer, launch.buffers)), body=self.stmt(launch.body), safe_values=safe_values)

    # -- buffers
    def buffer(self, buffer: Buffer) -> Buffer:
        found = self.buffers.get(buffer)
        if found is None:
            found = self.buffers[buffer] = self._split_buffer(buffer)
        return found

    def _split_buffer(self, buffer: Buffer) -> Buffer:
        source = None if buffer.source is None else self.buffer(buffer.source)
        pointer = None if buffer.pointer is None else self.scalar(buffer.pointer)
        lanes = buffer.dtype.lanes
        if lanes == 1:
            is_same = source is buffer.source and pointer is buffer.pointer
            return buffer if is_same else dataclasses.replace(buffer, source=source, pointer=pointer)
        strides = None if buffer.given_strides is None else (*(s * lanes for s in buffer.given_strides), 1)
        return dataclasses.replace(buffer, dtype=buffer.dtype.scalar, shape=(*buffer.shape, lanes), given_strides=strides, source=source, pointer=pointer)

    def region(self, region: Region) -> Region:
        lanes = region.dtype.lanes
        starts = tuple(map(self.scalar, region.starts))
        extents = tuple(n if isinstance(n, int) else self.scalar(n) for n in region.extents)
        slices = region.is_slice
        if lanes > 1:
            starts, extents, slices = (*starts, const(0)), (*extents, lanes), (*slices, True)
        return Region(self.buffer(region.buffer), starts, extents, slices, region.span)

    # -- expressions
    def scalar(self, root: Expr) -> Expr:
        (value,) = self.lanes(root)
        return value

    def lanes(self, root: Expr) -> Lanes:
        for node in subexpressions(root):
            if node not in self.known:
                self.known[node] = self._split_node(node, [self.known[a] for a in node.args])
        return self.known[root]

    def _split_node(self, node: Expr, args: list[Lanes]) -> Lanes:
        count = node.dtype.lanes
        if node.op is Op.LOAD:
            indices = tuple(a[0] for a in args)
            buffer = self.buffer(node.buffer)
            if count == 1:
                is_same = buffer is node.buffer and all(a is b for a, b in zip(indices, node.args, strict=True))
                return (node if is_same else load(buffer, indices),)
            return tuple(load(buffer, (*indices, const(lane))) for lane in range(count))
        if node.op is Op.CALL and node.attribute is PACK_LANES:
            return tuple(a[0] for a in args)
        if node.op is Op.CALL and node.attribute is EXTRACT_LANE:
            return (args[0][args[1][0].value],)
        if node.op is Op.REINTERPRET and any(len(a) > 1 for a in (*args, range(count))):
            return _reinterpreted(args[0], node.dtype)
        if count == 1:
            made = [a[0] for a in args]
            return (node if all(a is b for a, b in zip(made, node.args, strict=True)) else rebuild(node, tuple(made)),)
        if node.op is Op.VAR:
            return tuple(var(f"{node.name}_{lane}", node.dtype.scalar) for lane in range(count))
        return tuple(self._one_lane(node, [a[lane if len(a) > 1 else 0] for a in args]) for lane in range(count))

    def _one_lane(self, node: Expr, args: list[Expr]) -> Expr:
        """One lane of an operation that treats all lanes alike."""
        scalar = node.dtype.scalar
        match node.op:
            case Op.CONST:
                return const(node.value, scalar)
            case Op.CAST:
                return cast(args[0], scalar, node.attribute)
            case Op.SELECT | Op.IF_THEN_ELSE:
                return select(*args, is_lazy=node.op is Op.IF_THEN_ELSE)
            case Op.NEG | Op.BIT_NOT:
                return unary(node.op, args[0])
            case _:
                return rebuild(node, tuple(args))

    # -- statements
    def stmt(self, stmt: Stmt) -> Stmt:
        match stmt:
            case Seq():
                body: list[Stmt] = []
                for inner in stmt.body:
                    made = self.stmt(inner)
                    # Names that a split statement gives must be visible in the rest of this sequence.
                    body += made.body if isinstance(made, Seq) and not isinstance(inner, Seq) else [made]
                return dataclasses.replace(stmt, body=tuple(body))
            case Let() if stmt.value.dtype.lanes > 1:
                return Seq(stmt.span, tuple(Let(stmt.span, v, x) for v, x in zip(self.lanes(stmt.variable), self.lanes(stmt.value), strict=True)))
            case Store() if stmt.buffer.dtype.lanes > 1:
                return self._store(stmt)
            case Print():
                values = tuple(lane for v in stmt.values for lane in self.lanes(v))
                return dataclasses.replace(stmt, values=values, buffer=None if stmt.buffer is None else self.buffer(stmt.buffer))
            case Copy() if stmt.src.dtype.lanes > 1:
                domain = len(stmt.extents)
                return Copy(
                    stmt.span,
                    self.region(stmt.src),
                    self.region(stmt.dst),
                    (*map(self.scalar, stmt.extents), const(stmt.src.dtype.lanes)),
                    (*stmt.src_axes, domain),
                    (*stmt.dst_axes, domain),
                )
            case Fill() if stmt.dst.dtype.lanes > 1:
                return self._fill(stmt)
            case TileOp():
                _refuse_vectors(stmt)
        return rewrite(stmt, on_expr=self._any, on_buffer=self.buffer) if not _holds_statements(stmt) else self._rebuilt(stmt)

    def _rebuilt(self, stmt: Stmt) -> Stmt:
        """A statement with its inner statements split."""
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(stmt):
            value = getattr(stmt, field.name)
            if isinstance(value, Stmt):
                changes[field.name] = self.stmt(value)
            elif isinstance(value, Expr):
                changes[field.name] = self._any(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Expr):
                changes[field.name] = tuple(map(self._any, value))
        return dataclasses.replace(stmt, **changes)

    def _any(self, expression: Expr) -> Expr:
        found = self.lanes(expression)
        if len(found) != 1:
            raise CompilerBug(f"`{expression}` has {len(found)} lanes where one value belongs")
        return found[0]

    def _store(self, stmt: Store) -> Stmt:
        buffer, indices = self.buffer(stmt.buffer), tuple(map(self.scalar, stmt.indices))
        # All lanes are computed before the first is written: a value may rearrange what it overwrites.
        values = self.lanes(stmt.value)
        named = [var(f"lane_{lane}", value.dtype) for lane, value in enumerate(values)]
        lets = [Let(stmt.span, n, v) for n, v in zip(named, values, strict=True)]
        stores = [Store(stmt.span, buffer, (*indices, const(lane)), value) for lane, value in enumerate(named)]
        return Seq(stmt.span, (*lets, *stores))

    def _fill(self, stmt: Fill) -> Stmt:
        region, values = self.region(stmt.dst), self.lanes(stmt.value)
        if all(v is values[0] for v in values):
            return Fill(stmt.span, region, values[0])
        return Seq(stmt.span, tuple(Fill(stmt.span, _lane_of(region, lane), value) for lane, value in enumerate(values)))


def _lane_of(region: Region, lane: int) -> Region:
    return Region(region.buffer, (*region.starts[:-1], const(lane)), (*region.extents[:-1], 1), region.is_slice, region.span)


def _holds_statements(stmt: Stmt) -> bool:
    return any(isinstance(value, Stmt) for value in vars(stmt).values())


def _refuse_vectors(stmt: TileOp) -> None:
    for buffer in _buffers_of(stmt):
        if buffer.dtype.lanes > 1:
            fail(
                Kind.DTYPE_UNSUPPORTED,
                f"{buffer.name} is {buffer.dtype!s}, which this operation does not take",
                (Label(stmt.span), Label(buffer.span, f"{buffer.name} is allocated here")),
                because="of the tile operations only T.copy, T.fill and T.clear take dtypes of several lanes",
                help=f"look at it as {buffer.dtype.scalar!s}, with the lanes as its last dimension: "
                f'T.view({buffer.name}, {(*buffer.shape, buffer.dtype.lanes)}, "{buffer.dtype.scalar!s}")',
            )


def _reinterpreted(values: Lanes, target: DType) -> Lanes:
    """The lanes of the same bits as another dtype: the first lane holds the lowest bits."""
    source, wanted = values[0].dtype, target.scalar
    if source.bits == wanted.bits:
        return tuple(reinterpret(v, wanted) for v in values)
    narrow, wide = (dtypes.as_dtype(f"uint{min(source.bits, wanted.bits)}"), dtypes.as_dtype(f"uint{max(source.bits, wanted.bits)}"))
    ratio = wide.bits // narrow.bits
    if wanted.bits > source.bits:
        raw = [cast(reinterpret(v, narrow), wide) for v in values]
        joined = []
        for first in range(0, len(raw), ratio):
            total = raw[first]
            for step in range(1, ratio):
                total = binary(Op.BIT_OR, total, binary(Op.SHIFT_LEFT, raw[first + step], const(step * narrow.bits, wide)))
            joined.append(reinterpret(total, wanted))
        return tuple(joined)
    pieces = (cast(binary(Op.SHIFT_RIGHT, reinterpret(v, wide), const(step * narrow.bits, wide)), narrow) for v in values for step in range(ratio))
    return tuple(reinterpret(p, wanted) for p in pieces)
