"""`T.gemm`: a product of tiles, added to an accumulator tile (floor 4; language.md 7.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import Kind, Label, Span, fail
from tilewright.ir import build
from tilewright.ir.buffer import Buffer, Region, Scope, format_shape
from tilewright.ir.expr import Expr, Op, as_condition, as_expr, binary, cast, const, describe_operand, load, logical, minimum, select, var
from tilewright.ir.stmt import MatrixMultiply, PackPanels, ParallelFor, Seq, Stmt, Store, StreamMultiply
from tilewright.ir.tileop import Effects, LoweringContext, ReferenceEnvironment, Storage, TileOp, TilePlan
from tilewright.ops.operand import as_flag, as_region, fixed, has_extent, linear_address, may_overlap, name_region, read_box, write_box


class GemmWarpPolicy(Enum):
    """How the warps of a block share the accumulator; a hint."""

    Square = 0
    FullRow = 1
    FullCol = 2

    def is_square(self) -> bool:
        return self is GemmWarpPolicy.Square


def compute_dtype(operand: DType, accumulator: DType) -> DType:
    """What products and sums are done in: float64 or int32 where asked for, else float32."""
    if operand.is_float:
        return dtypes.float64 if dtypes.float64 in (operand, accumulator) else dtypes.float32
    return accumulator if accumulator.bits >= 32 else dtypes.int32


@dataclass(frozen=True, eq=False)
class Gemm(TileOp):
    """c = op(a) @ op(b) + (0 if clear else c), with a (m, k) or (k, m), b (k, n) or (n, k), c (m, n) after leading axes of extent 1.

    Products and sums are done in `compute_dtype` in any order; the result is rounded once to c's dtype.

    Passes make two more forms. b may be a region of a global tensor: what lies outside the tensor counts as zeros. c may be `blocks` matrices in a
    leading axis: b then has the columns of all of them side by side.
    """

    a: Region
    b: Region
    c: Region
    transpose_a: bool
    transpose_b: bool
    policy: GemmWarpPolicy
    clear: Expr
    depth: Expr | None = None  # how much of K counts, where the compiler made the tiles deeper than the last step needs

    @property
    def m_n_k(self) -> tuple[int, int, int]:
        (m, n), a = _matrix(self.c), _matrix(self.a)
        return m, n, a[0] if self.transpose_a else a[1]

    @property
    def blocks(self) -> int:
        """Matrices of c."""
        return math.prod(int(n) for n in self.c.extents[:-2])

    @property
    def is_streamed(self) -> bool:
        """The second operand is read where the caller has it."""
        return self.b.buffer.scope is Scope.GLOBAL

    def effects(self) -> Effects:
        return Effects(reads=(self.a, self.b, self.c), writes=(self.c,))

    def reference(self, environment: ReferenceEnvironment) -> None:
        compute = compute_dtype(self.a.dtype, self.c.dtype)
        exact = np.float64 if compute.is_float else np.int64

        a, b = (read_box(environment, r).reshape(_matrix(r)).astype(exact) for r in (self.a, self.b))
        a, b = a.T if self.transpose_a else a, b.T if self.transpose_b else b
        if self.depth is not None:
            depth = int(environment.value(self.depth))
            a, b = a[:, :depth], b[:depth]
        with np.errstate(all="ignore"):
            product = a @ b
            old = read_box(environment, self.c).astype(exact)
            side_by_side = product.reshape(product.shape[0], self.blocks, -1).swapaxes(0, 1)
            total = side_by_side.reshape(old.shape) + (0 if environment.value(self.clear) else old)
        write_box(environment, self.c, environment.convert(total.astype(compute.numpy), compute, self.c.dtype))

    # -- CPU
    def lower(self, context: LoweringContext) -> Stmt:
        rows, columns, depth = self.m_n_k
        compute = compute_dtype(self.a.dtype, self.c.dtype)
        before: list[Stmt] = []
        a_buffer, a_offset, a_strides = self._row_major(self.a, compute, context, before, "a")
        a_row, a_k = (a_strides[-1], a_strides[-2]) if self.transpose_a else (a_strides[-2], a_strides[-1])
        c_plan = context.plan(self.c.buffer)
        is_direct = c_plan.storage is Storage.ROW_MAJOR and c_plan.dtype == compute
        if is_direct:
            c_buffer, (c_offset, c_strides) = self.c.buffer, linear_address(context, self.c.buffer, self.c.starts)
            c_row, c_block = c_strides[-2], c_strides[-3] if self.blocks > 1 else 0
        else:
            c_buffer, c_offset = context.scratch("accumulator", compute, (self.blocks, rows, columns), self.span), const(0)
            c_row, c_block = columns, rows * columns
        clear = self.clear if is_direct else const(True)
        multiply: Stmt
        if self.is_streamed:
            b_offset, b_stride, is_transposed, valid_depth, valid_columns = self._clipped_b()
            multiply = StreamMultiply(
                self.span,
                rows,
                self.blocks,
                columns,
                valid_depth,
                valid_columns,
                a_buffer,
                a_offset,
                a_row,
                a_k,
                self.b.buffer,
                b_offset,
                b_stride,
                is_transposed,
                c_buffer,
                c_offset,
                c_row,
                c_block,
                clear,
            )
        else:
            b_buffer, b_offset, b_k, panel, b_panel_stride = self._packed_b(compute, context, before)
            multiply = MatrixMultiply(
                self.span,
                rows,
                columns,
                const(depth) if self.depth is None else self.depth,
                a_buffer,
                a_offset,
                a_row,
                a_k,
                b_buffer,
                b_offset,
                b_k,
                panel,
                b_panel_stride,
                c_buffer,
                c_offset,
                c_row,
                clear,
            )
        after = [] if is_direct and self.c.dtype == compute else [self._write_back(None if is_direct else c_buffer, compute)]
        return Seq(self.span, (*before, multiply, *after))

    def _packed_b(self, compute: DType, context: LoweringContext, before: list[Stmt]) -> tuple[Buffer, Expr, int, int, int]:
        """The second operand as MatrixMultiply takes it: buffer, offset, stride along k, panel width, panel stride."""
        _, columns, depth = self.m_n_k
        plan, panel = context.plan(self.b.buffer), context.panel_columns(compute)
        stride = panel_stride(depth, panel)
        if plan.storage is Storage.PANELS and plan.dtype == compute:
            return self.b.buffer, panel_tile_offset(self.b, -(-columns // panel) * stride), panel, panel, stride
        buffer, offset, strides = self._row_major(self.b, compute, context, before, "b")
        if not self.transpose_b:
            return buffer, offset, strides[-2], 0, 0
        packed = context.scratch("b_panels", compute, (-(-columns // panel), stride), self.span)
        row_stride, whole = as_expr(strides[-2]), (const(depth), const(columns))
        before.append(PackPanels(self.span, buffer, offset, row_stride, True, *whole, packed, const(0), depth, columns, panel, stride))
        return packed, const(0), panel, panel, stride

    def _clipped_b(self) -> tuple[Expr, Expr, bool, Expr, Expr]:
        """The second operand as StreamMultiply takes it: offset, stride, is_transposed, and how much there is of k and of the columns."""
        tensor, starts = self.b.buffer, self.b.starts
        strides, shape = tensor.element_strides(), tensor.shape
        k_axis, n_axis = (tensor.rank - 1, tensor.rank - 2) if self.transpose_b else (tensor.rank - 2, tensor.rank - 1)
        offset: Expr = const(0)
        for start, stride in zip(starts, strides, strict=True):
            offset = offset + start * stride
        valid_depth = minimum(as_expr(self.m_n_k[2]) if self.depth is None else self.depth, binary(Op.SUB, shape[k_axis], starts[k_axis]))
        valid_columns = binary(Op.SUB, shape[n_axis], starts[n_axis])
        for start, extent in zip(starts[:-2], shape[:-2], strict=True):
            is_inside = logical(Op.AND, start >= 0, binary(Op.LT, start, extent))
            valid_depth, valid_columns = select(is_inside, valid_depth, const(0)), select(is_inside, valid_columns, const(0))
        is_transposed = not (isinstance(strides[n_axis], int) and strides[n_axis] == 1)
        return offset, as_expr(strides[n_axis if is_transposed else k_axis]), is_transposed, valid_depth, valid_columns

    def _row_major(self, region: Region, compute: DType, context: LoweringContext, before: list[Stmt], name: str) -> tuple[Buffer, Expr, tuple[int, ...]]:
        """An operand as row-major elements of the compute dtype: in place, or copied into scratch first."""
        plan: TilePlan = context.plan(region.buffer)
        if plan.dtype == compute and plan.storage is Storage.ROW_MAJOR:
            return region.buffer, *linear_address(context, region.buffer, region.starts)
        shape = _matrix(region)
        scratch = context.scratch(f"{name}_{compute!s}", compute, shape, self.span)
        i, j = var("i"), var("j")
        at = (*region.starts[:-2], region.starts[-2] + i, region.starts[-1] + j)
        before.append(
            ParallelFor(self.span, (i, j), (const(shape[0]), const(shape[1])), Store(self.span, scratch, (i, j), cast(load(region.buffer, at), compute)))
        )
        return scratch, *linear_address(context, scratch, (const(0), const(0)))

    def _write_back(self, product: Buffer | None, compute: DType) -> Stmt:
        """Rounds the accumulator to its declared dtype, adding a product that was computed beside it."""
        rows, columns, _ = self.m_n_k
        p, i, j = var("p"), var("i"), var("j")
        block = p if self.blocks > 1 else const(0)
        leading = [s + p if n != 1 else s for s, n in zip(self.c.starts[:-2], self.c.extents[:-2], strict=True)]
        at = (*leading, self.c.starts[-2] + i, self.c.starts[-1] + j)
        value: Expr = load(self.c.buffer, at)
        if product is not None:
            old = select(self.clear, const(0, compute), cast(value, compute))
            value = cast(load(product, (block, i, j)) + old, self.c.dtype)
        loops = {p: self.blocks, i: rows, j: columns} if self.blocks > 1 else {i: rows, j: columns}
        return ParallelFor(self.span, tuple(loops), tuple(map(const, loops.values())), Store(self.span, self.c.buffer, at, value))


# Consecutive panels lie one cache line apart from a power of two, so that they fall into different sets of a cache.
_PANEL_PADDING_ELEMENTS = 16


def panel_stride(depth: int, panel: int) -> int:
    """Elements from one panel of a packed operand to the next."""
    return depth * panel + _PANEL_PADDING_ELEMENTS


def panel_tile_offset(region: Region, tile_elements: int) -> Expr:
    """Where the panels of one matrix begin in a buffer that holds several, one per point of its leading axes."""
    position: Expr = const(0)
    for start, extent in zip(region.starts[:-2], region.buffer.shape[:-2], strict=True):
        position = position * extent + start
    return position * tile_elements


def gemm(
    A: Any,
    B: Any,
    C: Any,
    transpose_A: bool = False,
    transpose_B: bool = False,
    policy: Any = GemmWarpPolicy.Square,
    clear_accum: Any = False,
    k_pack: int = 1,
    mbar: Any = None,
    annotations: Any = None,
    wg_wait: int = 0,
) -> None:
    """C += op(A) @ op(B), or C = where `clear_accum` (a bool, possibly known only at run time).

    A (M, K), B (K, N), C (M, N); transposed operands are (K, M) and (N, K); leading dimensions must be 1. `policy`, `k_pack` and `wg_wait` are hints.

    Raises TileError where ranks, sizes or dtypes do not fit.
    """
    builder = build.current()
    span = builder.here()
    a, b, c = (fixed(as_region(value, f"{name} of T.gemm", span)) for value, name in ((A, "A"), (B, "B"), (C, "C")))
    for region in (a, b, c):
        _check_operand(region, span)
    transpose_A, transpose_B = as_flag(transpose_A, "transpose_A", span), as_flag(transpose_B, "transpose_B", span)
    _check_sizes(a, b, c, transpose_A, transpose_B, span)
    _check_dtypes(a, b, c, span)
    for operand in (a, b):
        if may_overlap(operand, c):
            both = (
                f"{name_region(c)} is an operand and the result of T.gemm"
                if name_region(operand) == name_region(c)
                else f"{name_region(operand)} is an operand of T.gemm, and {name_region(c)} its result"
            )
            fail(
                Kind.GEMM_ALIAS,
                both,
                (Label(span), _operand_label(operand), _operand_label(c)),
                because="the result is written while the operands are still read",
                help="give the product an accumulator of its own, and copy it back",
            )
    builder.emit(Gemm(span, a, b, c, transpose_A, transpose_B, _policy(policy, span), as_condition(builder.snapshot(as_expr(clear_accum)))))


def _policy(policy: Any, span: Span) -> GemmWarpPolicy:
    if isinstance(policy, GemmWarpPolicy):
        return policy
    fail(
        Kind.OPTION_VALUE,
        f"policy is {describe_operand(policy)}",
        span,
        because="a warp policy is a member of T.GemmWarpPolicy",
        help="write T.GemmWarpPolicy.Square, FullRow or FullCol",
    )


def _matrix(region: Region) -> tuple[int, int]:
    rows, columns = region.extents[-2:]
    return int(rows), int(columns)


def _operand_label(region: Region) -> Label:
    return Label(region.buffer.span, f"{region.buffer.name}: {format_shape(region.buffer)}")


def _check_operand(region: Region, span: Span) -> None:
    name = name_region(region)
    if not has_extent(region) or region.buffer.rank < 2:
        fail(
            Kind.GEMM_RANK,
            f"{name} has {region.buffer.rank} dimension{'s' * (region.buffer.rank != 1)} ({format_shape(region.buffer)})"
            if region.buffer.rank < 2
            else f"{name} is one element",
            (Label(span), _operand_label(region)),
            because="a product takes 2-D tiles",
            help=f"give the whole tile {region.buffer.name}, or slice two of its dimensions"
            if region.buffer.rank >= 2
            else "give a vector a second dimension of size 1 or of a whole tile, as in T.alloc_shared((16, K), dtype)",
        )
    if not all(isinstance(n, int) for n in region.extents):
        fail(
            Kind.GEMM_SHAPE_STATIC,
            f"{name} has the shape {format_shape(region)}, which is known only at run time",
            (Label(span), _operand_label(region)),
            because="the sizes of a product choose its instructions when it is compiled",
            help="multiply whole tiles; T.copy fills what lies outside with zeros",
        )
    if region.buffer.scope is Scope.GLOBAL:
        fail(
            Kind.SCOPE,
            f"{name} is a global tensor",
            (Label(span), _operand_label(region)),
            because="a product takes tiles, whose every element exists",
            help="copy it into a T.alloc_shared tile first, which fills what lies outside with zeros",
        )
    leading = region.extents[:-2]
    if any(n != 1 for n in leading):
        fail(
            Kind.GEMM_BATCH,
            f"{name} has a leading dimension of {next(n for n in leading if n != 1)} ({format_shape(region)})",
            (Label(span), _operand_label(region)),
            because="T.gemm multiplies one pair of matrices: dimensions before the last two must be 1",
            help=f"loop over it and give {region.buffer.name}[b, :, :]",
        )


def _check_sizes(a: Region, b: Region, c: Region, transpose_a: bool, transpose_b: bool, span: Span) -> None:
    (am, ak) = _matrix(a)[::-1] if transpose_a else _matrix(a)
    (bk, bn) = _matrix(b)[::-1] if transpose_b else _matrix(b)
    cm, cn = _matrix(c)
    names = {r: name_region(r) for r in (a, b, c)}
    labels = (Label(span), *(_operand_label(r) for r in (a, b, c)))
    rule = f"T.gemm multiplies ({'K, M' if transpose_a else 'M, K'}) by ({'N, K' if transpose_b else 'K, N'}) into (M, N)"
    if ak != bk:
        fail(
            Kind.GEMM_K_MISMATCH,
            f"{names[a]} has K = {ak} but {names[b]} has K = {bk}",
            labels,
            because=rule,
            help=_transpose_hint(ak == bn, "transpose_B", transpose_b) or f"allocate {b.buffer.name} with K = {ak}",
        )
    if am != cm:
        fail(
            Kind.GEMM_M_MISMATCH, f"{names[a]} has M = {am} but {names[c]} has M = {cm}", labels, because=rule, help=f"allocate {c.buffer.name} with {am} rows"
        )
    if bn != cn:
        fail(
            Kind.GEMM_N_MISMATCH,
            f"{names[b]} has N = {bn} but {names[c]} has N = {cn}",
            labels,
            because=rule,
            help=f"allocate {c.buffer.name} with {bn} columns",
        )


def _transpose_hint(would_fit: bool, flag: str, given: bool) -> str | None:
    return f"write {flag}={not given}: then the sizes agree" if would_fit else None


def _check_dtypes(a: Region, b: Region, c: Region, span: Span) -> None:
    both_fp8 = a.dtype.is_float and b.dtype.is_float and a.dtype.bits == b.dtype.bits == 8
    both_int8 = a.dtype.is_integer and b.dtype.is_integer and a.dtype.bits == b.dtype.bits
    labels = (Label(span), *(_operand_label(r) for r in (a, b, c)))
    if a.dtype != b.dtype and not both_fp8 and not both_int8:
        fail(
            Kind.GEMM_DTYPE,
            f"{name_region(a)} is {a.dtype!s} but {name_region(b)} is {b.dtype!s}",
            labels,
            because="both operands of a product have one dtype",
            help="convert one of them with T.copy into a tile of the other dtype",
        )
    if a.dtype.is_bool or a.dtype.is_float != c.dtype.is_float or (c.dtype.is_integer and c.dtype.bits < 32) or c.dtype.is_bool:
        wanted = "a float dtype, usually float32" if a.dtype.is_float else "int32"
        fail(
            Kind.GEMM_DTYPE,
            f"{a.dtype!s} products cannot be added to the {c.dtype!s} accumulator {name_region(c)}",
            labels,
            because=f"products of {a.dtype!s} are summed in {wanted}",
            help=f"allocate {c.buffer.name} as {wanted.split(' ')[-1] if a.dtype.is_float else 'int32'}",
        )
