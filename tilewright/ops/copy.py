"""`T.copy`: moves a tile between any two memories, converting and clipping on the way (floor 4; language.md 7.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir import build
from tilewright.ir.buffer import Extent, Region, Scope, format_shape
from tilewright.ir.expr import Expr, as_expr, cast, const, describe_operand, load, minimum, select, var
from tilewright.ir.stmt import If, ParallelFor, Seq, Stmt, Store
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, TileOp
from tilewright.ops.operand import (
    as_region,
    bounds_conditions,
    fixed,
    has_extent,
    index_arrays,
    is_one,
    leading_axes,
    may_overlap,
    name_region,
    plain_index,
    same_extent,
)

_EVICTION_POLICIES = ("evict_normal", "evict_first", "evict_last")
_INSTRUCTIONS = ("tma", "cp_async", "sync")
_CLOSENESS = {Scope.GLOBAL: 0, Scope.SHARED: 1}


@dataclass(frozen=True, eq=False)
class Copy(TileOp):
    """dst[dst.starts + p] = src[src.starts + p] for every p of the domain.

    extents            of the domain.
    src_axes, dst_axes per buffer axis: the domain axis it runs along, -1 where it stands still.
    A source outside its buffer gives the buffer's safe value; a destination outside is not written.

    is_async           the destination may be written at any time up to the wait for the copy's group (`ops.async_copy`); a program that is right does
                       not touch it before, so the copy may as well be done at once, which is what it means here and on a CPU.
    """

    src: Region
    dst: Region
    extents: tuple[Expr, ...]
    src_axes: tuple[int, ...]
    dst_axes: tuple[int, ...]
    is_async: bool = False

    def effects(self) -> Effects:
        return Effects(reads=(self.src,), writes=(self.dst,))

    def with_regions(self, change: Callable[[Region], Region]) -> Copy:
        src, dst = change(self.src), change(self.dst)
        src_axes, dst_axes = (leading_axes(new, old, -1) + axes for new, old, axes in ((src, self.src, self.src_axes), (dst, self.dst, self.dst_axes)))
        return dataclasses.replace(self, src=src, dst=dst, src_axes=src_axes, dst_axes=dst_axes)

    def reference(self, environment: ReferenceEnvironment) -> None:
        domain = tuple(max(0, int(environment.value(e))) for e in self.extents)
        source, target = environment.array(self.src.buffer), environment.array(self.dst.buffer)
        plain_src, plain_dst = (plain_index(environment, r, a, domain) for r, a in ((self.src, self.src_axes), (self.dst, self.dst_axes)))
        if plain_src is not None and plain_dst is not None:
            target[plain_dst] = environment.convert(source[plain_src], self.src.dtype, self.dst.dtype)
            return
        src_indices, readable = index_arrays(environment, self.src, self.src_axes, domain)
        dst_indices, writable = index_arrays(environment, self.dst, self.dst_axes, domain)
        lanes = source.shape[len(src_indices) :]  # of a vector dtype: one more axis, which moves as a whole
        clipped = tuple(np.broadcast_to(np.clip(i, 0, max(n - 1, 0)), domain) for i, n in zip(src_indices, source.shape, strict=False))
        values = source[clipped] if source.size else np.zeros(domain + lanes, source.dtype)
        values = np.where(readable[..., None] if lanes else readable, values, np.asarray(environment.safe_value(self.src.buffer)).astype(source.dtype))
        converted = environment.convert(values, self.src.dtype, self.dst.dtype)
        target[tuple(np.broadcast_to(i, domain)[writable] for i in dst_indices)] = converted[writable]

    def lower(self, context: LoweringContext) -> Stmt:
        if may_overlap(self.src, self.dst) and (self.dst.buffer.scope is not Scope.GLOBAL or all(e.is_const for e in self.extents)):
            return self._through_scratch(context)
        packed = context.lower_packed_copy(self)
        return packed if packed is not None else self.loops(self.src, self.src_axes, self.dst, self.dst_axes)

    def loops(self, src: Region, src_axes: tuple[int, ...], dst: Region, dst_axes: tuple[int, ...]) -> Stmt:
        """The copy as a parallel loop over its domain."""
        at = [const(0, e.dtype) if is_one(e) else var(name, e.dtype) for name, e in zip("ijklmnop", self.extents, strict=False)]
        variables, extents = tuple(p for p in at if not p.is_const), tuple(e for e in self.extents if not is_one(e))
        src_at = tuple(s + at[a] if a >= 0 else s for s, a in zip(src.starts, src_axes, strict=True))
        dst_at = tuple(s + at[a] if a >= 0 else s for s, a in zip(dst.starts, dst_axes, strict=True))
        value = cast(load(src.buffer, src_at), dst.dtype)
        readable = bounds_conditions(src, src_at)
        if readable is not None:
            value = select(readable, value, const(0, dst.dtype), is_lazy=True)
        body: Stmt = Store(self.span, dst.buffer, dst_at, value)
        writable = bounds_conditions(dst, dst_at)
        if writable is not None:
            body = If(self.span, writable, body)
        return ParallelFor(self.span, variables, extents, body) if variables else body

    def _through_scratch(self, context: LoweringContext) -> Stmt:
        """Source and destination share memory: all is read before anything is written."""
        shape = self._static_bound()
        scratch = context.scratch("copied", self.dst.dtype, shape, self.span)
        middle = Region(scratch, tuple(const(0) for _ in shape), shape, (True,) * len(shape), self.span)
        axes = tuple(range(len(shape)))
        return Seq(self.span, (self.loops(self.src, self.src_axes, middle, axes), self.loops(middle, axes, self.dst, self.dst_axes)))

    def _static_bound(self) -> tuple[int, ...]:
        """An upper bound of each extent: its own value, or the destination tile's."""
        return tuple(max(e.value, 1) if e.is_const else self.dst.buffer.static_shape[self.dst_axes.index(d)] for d, e in enumerate(self.extents))


def copy(
    src: Any,
    dst: Any,
    *,
    coalesced_width: int | None = None,
    disable_tma: bool = False,
    eviction_policy: str | None = None,
    prefer_instruction: str | None = None,
    annotations: Any = None,
    loop_layout: Any = None,
) -> None:
    """Copies a tile; the hints never change the result.

    An operand is a buffer, a region, or an element that says where the tile begins (it takes the other side's extents). Sizes of 1 are ignored where
    the numbers of other sizes agree; otherwise axes are matched from the right and 1 is stretched.

    Raises TileError (copy-shape) where the shapes cannot match.
    """
    builder = build.current()
    span = builder.here()
    source, target = as_region(src, "the source of T.copy", span), as_region(dst, "the destination of T.copy", span)
    for name, value, known in (("eviction_policy", eviction_policy, _EVICTION_POLICIES), ("prefer_instruction", prefer_instruction, _INSTRUCTIONS)):
        if value is not None and not (isinstance(value, str) and value in known):
            fail(
                Kind.OPTION_VALUE,
                f"{name} is {repr(value) if isinstance(value, str) else describe_operand(value)}",
                span,
                because=f"known are {', '.join(known)}",
                help="leave it out",
            )
    if source.dtype.lanes != target.dtype.lanes:
        fail(
            Kind.CAST_DTYPE,
            f"{name_region(source)} is {source.dtype!s}, but {name_region(target)} is {target.dtype!s}",
            (Label(span), Label(source.buffer.span), Label(target.buffer.span)),
            because="a conversion keeps the number of lanes",
            help="look at one of them as a dtype of the other's lanes with T.view",
        )
    if not has_extent(source) and not has_extent(target):
        builder.emit(Store(span, target.buffer, target.starts, cast(load(source.buffer, source.starts), target.dtype)))
        return
    builder.emit(match_tiles(fixed(source), fixed(target), src is source.buffer and dst is target.buffer, span))


def match_tiles(source: Region, target: Region, are_whole: bool, span: Span) -> Copy:
    """The copy between two operands, its domain found by the rules of language.md 7.1."""
    if are_whole and not (source.buffer.rank == target.buffer.rank and all(map(same_extent, source.buffer.shape, target.buffer.shape))):
        _fail_shapes(source, target, span, "two whole buffers must have the same shape", _region_hint(source, target))
    source, target = _with_extents(source, target, span), _with_extents(target, source, span)
    source_axes = [a for a, n in enumerate(source.extents) if not is_one(n)]
    target_axes = [a for a, n in enumerate(target.extents) if not is_one(n)]
    if _are_same_matrices(source, target):
        pairs: list[tuple[int | None, int | None]] = [(a, a) for a, n in enumerate(source.extents) if not is_one(n) or a >= source.buffer.rank - 2]
    elif len(source_axes) == len(target_axes):
        pairs = list(zip(source_axes, target_axes, strict=True))
    else:
        rank = max(len(source.extents), len(target.extents))
        offset, shift = len(source.extents) - rank, len(target.extents) - rank
        aligned = [(offset + d if offset + d >= 0 else None, shift + d if shift + d >= 0 else None) for d in range(rank)]
        pairs = [(a, b) for a, b in aligned if not (a is None or is_one(source.extents[a])) or not (b is None or is_one(target.extents[b]))]
    is_source_closer = _CLOSENESS.get(source.buffer.scope, 2) >= _CLOSENESS.get(target.buffer.scope, 2)
    src_axes, dst_axes = [-1] * source.buffer.rank, [-1] * target.buffer.rank
    extents: list[Expr] = []
    for a, b in pairs:
        n: Extent = 1 if a is None else source.extents[a]
        m: Extent = 1 if b is None else target.extents[b]
        is_stretched = is_one(n) and len(source_axes) != len(target_axes)
        if is_one(m) and isinstance(n, int) and n > 1 and len(source_axes) > len(target_axes):
            _fail_shapes(
                source,
                target,
                span,
                f"the source has {len(source_axes)} dimensions of more than one element, the destination {len(target_axes)}: {n} "
                "elements would go to one place",
                "copy it row by row, as in A[i, :], or give both sides one shape with T.reshape",
            )
        if not is_stretched and not is_source_closer and isinstance(n, int) and isinstance(m, int) and m < n:
            _fail_shapes(source, target, span, f"the destination tile has {m} elements where the source has {n}", "make the tile as large as the source region")
        if a is not None and not is_stretched:
            src_axes[a] = len(extents)
        if b is not None:
            dst_axes[b] = len(extents)
        extents.append(as_expr(m if is_stretched or same_extent(n, m) else minimum(as_expr(n), as_expr(m))))
    return Copy(span, source, target, tuple(extents), tuple(src_axes), tuple(dst_axes))


def _are_same_matrices(source: Region, target: Region) -> bool:
    """Equal extents: then a matrix of one row stays a matrix, as products want it."""
    return source.buffer.rank == target.buffer.rank >= 2 and all(map(same_extent, source.extents, target.extents))


def _region_hint(source: Region, target: Region) -> str:
    """The slice of the larger buffer that has the shape of the smaller one, where one is larger on every axis."""
    for small, large in ((source, target), (target, source)):
        if small.buffer.rank == large.buffer.rank and all(
            isinstance(n, int) and isinstance(m, int) and n <= m for n, m in zip(small.extents, large.extents, strict=True)
        ):
            return f"copy a region of the larger one: {large.buffer.name}[{', '.join(f'0:{n}' for n in small.extents)}]"
    return "allocate the tile with the same shape, or copy regions of both, as in A[0:n]"


def _with_extents(region: Region, other: Region, span: Span) -> Region:
    """A point takes the other side's extents, aligned at the right."""
    if has_extent(region):
        return region
    wanted = other.extents if len(other.extents) <= region.buffer.rank else other.shape
    if len(wanted) > region.buffer.rank:
        _fail_shapes(
            region, other, span, f"{region} has {region.buffer.rank} indices, the tile has {len(wanted)} dimensions", "give one index per dimension of the tile"
        )
    extents = (1,) * (region.buffer.rank - len(wanted)) + tuple(wanted)
    return Region(region.buffer, region.starts, extents, tuple(not is_one(n) for n in extents), region.span)


def _fail_shapes(source: Region, target: Region, span: Span, because: str, help: str) -> None:
    fail(
        Kind.COPY_SHAPE,
        f"{name_region(source)} is {format_shape(source)}, but {name_region(target)} is {format_shape(target)}",
        (
            Label(span),
            Label(source.buffer.span, f"{source.buffer.name}: {format_shape(source.buffer)}"),
            Label(target.buffer.span, f"{target.buffer.name}: {format_shape(target.buffer)}"),
        ),
        because=because,
        help=help,
    )
