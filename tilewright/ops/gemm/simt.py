"""A product with plain multiply-adds (floor 4): each thread computes the elements of c that it holds, from operands in shared memory.

A turn of the loop over k takes several steps where an operand lies along k in memory, so that it is read in wide accesses; each element that is read
serves a whole row or column of the thread's part of c.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.arith.lower_layout import lower_layout, lower_memory_layout
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, Op, binary, cast, const, load, minimum, var
from tilewright.ir.stmt import For, If, Let, LoopKind, Seq, Stmt, Store
from tilewright.ir.thread import Address, VectorCopy
from tilewright.layout import LANE, REG, WARP, Axis, Layout
from tilewright.ops.gemm.accumulator import accumulate_in
from tilewright.ops.gemm.shared_operand import has_runs
from tilewright.ops.gemm.threads import SharedTile, ThreadProduct, unrolled

_ACCESS_BITS = 128
_UNROLLED_PRODUCTS = 512  # multiply-adds that one turn of the loop over k writes out
_ROW, _COLUMN = "row", "column"  # registers along m and along n


def lower_on_plain_arithmetic(product: ThreadProduct) -> Stmt:
    """What one thread does. Barriers are the caller's: the operands are in place, and nobody overwrites them meanwhile."""
    plan, span = product.plan, product.span
    if not (isinstance(product.a, SharedTile) and isinstance(product.b, SharedTile)):
        raise CompilerBug("a product without tensor cores takes its operands from shared memory")
    layout = _split_registers(plan.accumulator_layout)
    rows, columns = layout.in_axis(_ROW).extent, layout.in_axis(_COLUMN).extent
    sums, before, after = accumulate_in(product)
    a = _Side(product, product.a, layout, _ROW, plan.m, is_k_first=product.transpose_a)
    b = _Side(product, product.b, layout, _COLUMN, plan.n, is_k_first=not product.transpose_b)
    depth = max(a.run_along_k, b.run_along_k)
    while depth > 1 and depth * rows * columns > _UNROLLED_PRODUCTS:
        depth //= 2
    a_registers, b_registers = a.allocate("a_registers", depth), b.allocate("b_registers", depth)
    turn = var("k")

    def multiply(k: Expr) -> Stmt:
        def row(i: Expr) -> Stmt:
            left = var("a", sums.dtype)

            def element(j: Expr) -> Stmt:
                at = (i * columns + j,)
                right = cast(load(b_registers, (b.register(j, k),)), sums.dtype)
                return Store(span, sums, at, load(sums, at) + left * right)

            value = Let(span, left, cast(load(a_registers, (a.register(i, k),)), sums.dtype))
            return Seq(span, (value, unrolled(span, "j", columns, element)))

        return unrolled(span, "i", rows, row)

    body = Seq(span, (a.fetch(turn * depth), b.fetch(turn * depth), unrolled(span, "step", depth, multiply)))
    made = Seq(span, (*before, For(span, turn, const(plan.k // depth), LoopKind.SERIAL, body), *after))
    return _of_threads(product, layout, made)


def _of_threads(product: ThreadProduct, layout: Layout, body: Stmt) -> Stmt:
    """The statement for the threads that hold c; others have nothing to do."""
    lanes, warps = layout.in_axis(LANE).extent, layout.in_axis(WARP).extent
    if lanes * warps == product.plan.num_threads:
        return body
    condition = binary(Op.LT, product.warp, const(warps)) if lanes == 32 else binary(Op.LT, product.lane, const(lanes))
    return If(product.span, condition, body)


def _split_registers(layout: Layout) -> Layout:
    """(column, row, lane, warp) -> d0, d1: registers count columns of c first, as `distribute` numbers them."""
    registers = layout.columns_of(REG)
    in_columns = [all(1 << digit != column for digit in layout.out_digits("d0")) for column in registers]
    count = sum(in_columns)
    if not all(in_columns[:count]):
        raise CompilerBug("the registers of an accumulator do not count columns first")
    digits = layout.in_axis(REG).digits
    return layout.reshape_ins((Axis(_COLUMN, digits[:count]), Axis(_ROW, digits[count:]), layout.in_axis(LANE), layout.in_axis(WARP)))


@dataclass
class _Side:
    """One operand: `count` rows (of a) or columns (of b) per thread, of which `extent` exist; stored with k on the first axis or on the last."""

    product: ThreadProduct
    tile: SharedTile
    layout: Layout
    name: str
    extent: int
    is_k_first: bool

    def __post_init__(self) -> None:
        k, widest = self.product.plan.k, _ACCESS_BITS // self.tile.buffer.dtype.bits
        self.count = self.layout.in_axis(self.name).extent
        self.extents = (k, self.extent) if self.is_k_first else (self.extent, k)
        self.outer_axis = "d0" if self.name == _ROW else "d1"
        outer, inner = ("d1", "d0") if self.is_k_first else ("d0", "d1")
        self.run_along_k = self.longest_run(inner, widest)
        self.run_along_outer = self.longest_run(outer, min(widest, self.neighbours()))

    def longest_run(self, axis: str, limit: int) -> int:
        """The widest vector along an axis of the tile as stored that is one access; 1 where there is none."""
        elements = 1 << limit.bit_length() - 1
        while elements > 1 and not (elements * self.tile.buffer.dtype.bits >= 16 and has_runs(self.tile, self.extents, axis, elements)):
            elements //= 2
        return elements

    def neighbours(self) -> int:
        """How many of the thread's rows or columns follow each other."""
        first = self.layout.out_digits(self.outer_axis).start
        columns, count = self.layout.columns_of(self.name), 0
        while count < len(columns) and columns[count] == 1 << first + count and self.layout.in_axis(self.name).digits[count] == 2:
            count += 1
        return 1 << count

    def allocate(self, name: str, depth: int) -> Buffer:
        """Room for `depth` steps along k."""
        self.depth = depth
        self.run_along_k = min(self.run_along_k, depth)
        self.is_along_k = self.run_along_k > 1 or self.run_along_outer == 1
        self.registers = self.product.registers(name, self.tile.buffer.dtype, self.count * depth)
        return self.registers

    def register(self, i: Expr, step: Expr) -> Expr:
        """Where the element of the thread's i-th row or column at a step is."""
        return i * self.depth + step if self.is_along_k else step * self.count + i

    def fetch(self, k: Expr) -> Stmt:
        """Loads the steps from k on."""
        span = self.product.span
        if self.is_along_k:
            run = self.run_along_k
            return unrolled(span, "i", self.count, lambda i: unrolled(span, "q", self.depth // run, lambda q: self.access(i, k, q * run, run, 1)))
        run = self.run_along_outer
        return unrolled(span, "step", self.depth, lambda s: unrolled(span, "q", self.count // run, lambda q: self.access(q * run, k, s, run, run)))

    def access(self, i: Expr, k: Expr, step: Expr, elements: int, granule: int) -> Stmt:
        """Loads consecutive elements from row or column i at k + step on; `granule` of them are rows or columns."""
        span, tile = self.product.span, self.tile
        inputs = {_ROW: const(0), _COLUMN: const(0), LANE: self.product.lane, WARP: self.product.warp, self.name: i}
        place = lower_layout(self.layout, inputs)[self.outer_axis]
        if self.layout.out_axis(self.outer_axis).extent > self.extent:
            place = minimum(place, const(self.extent - granule))
        matrix = (k + step, place) if self.is_k_first else (place, k + step)
        coordinates = (*tile.starts[:-2], *(start + at for start, at in zip(tile.starts[-2:], matrix, strict=True)))
        names = [axis.name for axis in tile.memory.layout.ins]
        source = Address(tile.buffer, (lower_memory_layout(tile.memory, dict(zip(names, coordinates, strict=True))),))
        register = self.register(i, step)
        if elements == 1:
            return Store(span, self.registers, (register,), load(tile.buffer, source.indices))
        return VectorCopy(span, Address(self.registers, (register,)), source, elements)
