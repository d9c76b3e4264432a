"""`T.gemm` on a CPU: micro-kernels over packed panels, or over the second operand where the caller has it (floor 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilewright.dtypes import DType
from tilewright.ir.buffer import Buffer, Region
from tilewright.ir.expr import Expr, Op, as_expr, binary, cast, const, load, logical, minimum, select, var
from tilewright.ir.stmt import MatrixMultiply, PackPanels, ParallelFor, Seq, Stmt, Store, StreamMultiply
from tilewright.ir.tileop import LoweringContext, Storage, TilePlan
from tilewright.ops.gemm.numerics import compute_dtype
from tilewright.ops.operand import linear_address, matrix_extents

if TYPE_CHECKING:
    from tilewright.ops.gemm import Gemm


def lower_on_cpu(op: Gemm, context: LoweringContext) -> Stmt:
    rows, columns, depth = op.m_n_k
    compute = compute_dtype(op.a.dtype, op.c.dtype)
    before: list[Stmt] = []
    a_buffer, a_offset, a_strides = _row_major(op, op.a, compute, context, before, "a")
    a_row, a_k = (a_strides[-1], a_strides[-2]) if op.transpose_a else (a_strides[-2], a_strides[-1])
    c_plan = context.plan(op.c.buffer)
    is_direct = c_plan.storage is Storage.ROW_MAJOR and c_plan.dtype == compute
    if is_direct:
        c_buffer, (c_offset, c_strides) = op.c.buffer, linear_address(context, op.c.buffer, op.c.starts)
        c_row, c_block = c_strides[-2], c_strides[-3] if op.blocks > 1 else 0
    else:
        c_buffer, c_offset = context.scratch("accumulator", compute, (op.blocks, rows, columns), op.span), const(0)
        c_row, c_block = columns, rows * columns
    clear = op.clear if is_direct else const(True)
    multiply: Stmt
    if op.is_streamed:
        b_offset, b_stride, is_transposed, valid_depth, valid_columns = _clipped_b(op)
        multiply = StreamMultiply(
            op.span,
            rows,
            op.blocks,
            columns,
            valid_depth,
            valid_columns,
            a_buffer,
            a_offset,
            a_row,
            a_k,
            op.b.buffer,
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
        b_buffer, b_offset, b_k, panel, b_panel_stride = _packed_b(op, compute, context, before)
        multiply = MatrixMultiply(
            op.span,
            rows,
            columns,
            const(depth) if op.depth is None else op.depth,
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
    after = [] if is_direct and op.c.dtype == compute else [_write_back(op, None if is_direct else c_buffer, compute)]
    return Seq(op.span, (*before, multiply, *after))


def _packed_b(op: Gemm, compute: DType, context: LoweringContext, before: list[Stmt]) -> tuple[Buffer, Expr, int, int, int]:
    """The second operand as MatrixMultiply takes it: buffer, offset, stride along k, panel width, panel stride."""
    _, columns, depth = op.m_n_k
    plan, panel = context.plan(op.b.buffer), context.panel_columns(compute)
    stride = panel_stride(depth, panel)
    if plan.storage is Storage.PANELS and plan.dtype == compute:
        return op.b.buffer, panel_tile_offset(op.b, -(-columns // panel) * stride), panel, panel, stride
    buffer, offset, strides = _row_major(op, op.b, compute, context, before, "b")
    if not op.transpose_b:
        return buffer, offset, strides[-2], 0, 0
    packed = context.scratch("b_panels", compute, (-(-columns // panel), stride), op.span)
    row_stride, whole = as_expr(strides[-2]), (const(depth), const(columns))
    before.append(PackPanels(op.span, buffer, offset, row_stride, True, *whole, packed, const(0), depth, columns, panel, stride))
    return packed, const(0), panel, panel, stride


def _clipped_b(op: Gemm) -> tuple[Expr, Expr, bool, Expr, Expr]:
    """The second operand as StreamMultiply takes it: offset, stride, is_transposed, and how much there is of k and of the columns."""
    tensor, starts = op.b.buffer, op.b.starts
    strides, shape = tensor.element_strides(), tensor.shape
    k_axis, n_axis = (tensor.rank - 1, tensor.rank - 2) if op.transpose_b else (tensor.rank - 2, tensor.rank - 1)
    offset: Expr = const(0)
    for start, stride in zip(starts, strides, strict=True):
        offset = offset + start * stride
    valid_depth = minimum(as_expr(op.m_n_k[2]) if op.depth is None else op.depth, binary(Op.SUB, shape[k_axis], starts[k_axis]))
    valid_columns = binary(Op.SUB, shape[n_axis], starts[n_axis])
    for start, extent in zip(starts[:-2], shape[:-2], strict=True):
        is_inside = logical(Op.AND, start >= 0, binary(Op.LT, start, extent))
        valid_depth, valid_columns = select(is_inside, valid_depth, const(0)), select(is_inside, valid_columns, const(0))
    is_transposed = not (isinstance(strides[n_axis], int) and strides[n_axis] == 1)
    return offset, as_expr(strides[n_axis if is_transposed else k_axis]), is_transposed, valid_depth, valid_columns


def _row_major(op: Gemm, region: Region, compute: DType, context: LoweringContext, before: list[Stmt], name: str) -> tuple[Buffer, Expr, tuple[int, ...]]:
    """An operand as row-major elements of the compute dtype: in place, or copied into scratch first."""
    plan: TilePlan = context.plan(region.buffer)
    if plan.dtype == compute and plan.storage is Storage.ROW_MAJOR:
        return region.buffer, *linear_address(context, region.buffer, region.starts)
    shape = matrix_extents(region)
    scratch = context.scratch(f"{name}_{compute!s}", compute, shape, op.span)
    i, j = var("i"), var("j")
    at = (*region.starts[:-2], region.starts[-2] + i, region.starts[-1] + j)
    before.append(ParallelFor(op.span, (i, j), (const(shape[0]), const(shape[1])), Store(op.span, scratch, (i, j), cast(load(region.buffer, at), compute))))
    return scratch, *linear_address(context, scratch, (const(0), const(0)))


def _write_back(op: Gemm, product: Buffer | None, compute: DType) -> Stmt:
    """Rounds the accumulator to its declared dtype, adding a product that was computed beside it."""
    rows, columns, _ = op.m_n_k
    p, i, j = var("p"), var("i"), var("j")
    block = p if op.blocks > 1 else const(0)
    leading = [s + p if n != 1 else s for s, n in zip(op.c.starts[:-2], op.c.extents[:-2], strict=True)]
    at = (*leading, op.c.starts[-2] + i, op.c.starts[-1] + j)
    value: Expr = load(op.c.buffer, at)
    if product is not None:
        old = select(op.clear, const(0, compute), cast(value, compute))
        value = cast(load(product, (block, i, j)) + old, op.c.dtype)
    loops = {p: op.blocks, i: rows, j: columns} if op.blocks > 1 else {i: rows, j: columns}
    return ParallelFor(op.span, tuple(loops), tuple(map(const, loops.values())), Store(op.span, op.c.buffer, at, value))


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
