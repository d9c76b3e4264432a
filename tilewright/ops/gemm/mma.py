"""A product on tensor cores with `mma.sync` (floor 4).

Each warp multiplies its grid of instruction tiles, step by step along k. Operands in shared memory are loaded into registers one step ahead, so that loads
and products overlap. Where a is in registers whole, its product with a few columns of b is done to the end, then the next: b takes fewer registers so.
"""

from __future__ import annotations

import functools
from typing import TypeGuard

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.intrin.nvidia.convert import convert
from tilewright.intrin.nvidia.mma import Mma
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, Op, binary, const, var
from tilewright.ir.stmt import For, If, LoopKind, Seq, Stmt
from tilewright.ir.thread import InstructionCall, Registers
from tilewright.layout import REG, Layout
from tilewright.ops.gemm.accumulator import accumulate_in
from tilewright.ops.gemm.shared_operand import FragmentLoad, plan_fragment_load
from tilewright.ops.gemm.threads import RegisterTile, SharedTile, ThreadProduct, unrolled

# Instructions of one product that are written out; beyond, the loop over k stays a loop and loads are not ahead.
_UNROLLED_INSTRUCTIONS = 512


def lower_on_tensor_cores(product: ThreadProduct) -> Stmt:
    """What one thread does; the plan has an instruction. Barriers are the caller's: the operands are in place, and nobody overwrites them meanwhile."""
    plan = product.plan
    assert plan.atom is not None and plan.a_fragment is not None and plan.b_fragment is not None
    a_stored, b_stored = ("k", "m") if product.transpose_a else ("m", "k"), ("n", "k") if product.transpose_b else ("k", "n")
    sizes = {"m": plan.m, "n": plan.n, "k": plan.k}
    a = _Operand(product, "a", product.a, plan.a_layout, _stored(plan.a_fragment, a_stored), (sizes[a_stored[0]], sizes[a_stored[1]]), plan.atom.a_dtype)
    b = _Operand(product, "b", product.b, plan.b_layout, _stored(plan.b_fragment, b_stored), (sizes[b_stored[0]], sizes[b_stored[1]]), plan.atom.b_dtype)
    accumulator, before, after = accumulate_in(product)
    body = Seq(product.span, (*before, *a.before, *b.before, *_steps(product, plan.atom, a, b, accumulator), *after))
    if plan.num_warps * 32 < plan.num_threads:
        return If(product.span, binary(Op.LT, product.warp, const(plan.num_warps)), body)
    return body


def _stored(fragment: Layout, names: tuple[str, str]) -> Layout:
    return fragment.reorder(outs=names).rename(outs={names[0]: "d0", names[1]: "d1"})


class _Operand:
    """Registers of a or b at a step."""

    def __init__(
        self, product: ThreadProduct, name: str, tile: SharedTile | RegisterTile, held: Layout | None, fragment: Layout, extents: tuple[int, int], dtype: DType
    ) -> None:
        self.product, self.name, self.tile, self.dtype = product, name, tile, dtype
        self.count = fragment.in_axis(REG).extent  # registers of one step
        self.num_buffers = 1
        self.load: FragmentLoad | None = None
        if isinstance(tile, SharedTile):
            self.load = plan_fragment_load(tile, fragment, extents, name, product.lane, product.warp, product.span)
        elif held is None or tile.layout != held:
            raise CompilerBug(f"operand {name} of a product is not laid out as its plan says")
        self.raw: Buffer | None = None
        # The hardware reads tf32 operands without their low bits; they are rounded to nearest before.
        self.rounded = product.registers(f"{name}_tf32", dtype, self.count) if dtype is dtypes.tfloat32 else None

    @property
    def before(self) -> tuple[Stmt, ...]:
        return self.load.before if self.load is not None else ()

    def allocate(self, num_buffers: int) -> None:
        """Makes room for the fragments of that many steps."""
        if self.load is not None:
            self.num_buffers = num_buffers
            self.raw = self.product.registers(f"{self.name}_registers", self.tile.buffer.dtype, self.count * num_buffers)

    def fetch(self, step: Expr) -> list[Stmt]:
        """Loads the fragment of a step."""
        if self.load is None or self.raw is None:
            return []
        return [self.load.emit(step, self.raw, self.slot(step))]

    def slot(self, step: Expr) -> Expr:
        return step % self.num_buffers * self.count if self.num_buffers > 1 else const(0)

    def at(self, step: Expr) -> tuple[list[Stmt], Buffer, Expr]:
        """What must be done before the products of a step, and where the operand is then."""
        source, offset = (self.tile.buffer, step * self.count) if self.raw is None else (self.raw, self.slot(step))
        if self.rounded is None:
            return [], source, offset
        span, target, instruction = self.product.span, self.rounded, convert(source.dtype, self.dtype)

        def one(r: Expr) -> Stmt:
            return InstructionCall(span, instruction, (Registers(target, r), Registers(source, offset + r)))

        return [unrolled(span, "r", self.count, one)], target, const(0)


def _steps(product: ThreadProduct, atom: Mma, a: _Operand, b: _Operand, accumulator: Buffer) -> list[Stmt]:
    span, steps = product.span, product.plan.steps
    num_a, num_b, num_c = (layout.in_axis(REG).extent for layout in (atom.a_layout, atom.b_layout, atom.c_layout))
    row_tiles, column_tiles = a.count // num_a, b.count // num_b

    def multiply(step: Expr) -> list[Stmt]:
        before_a, a_registers, a_offset = a.at(step)
        before_b, b_registers, b_offset = b.at(step)

        def tile(i: Expr, j: Expr) -> Stmt:
            c = Registers(accumulator, (i * column_tiles + j) * num_c)
            return InstructionCall(span, atom, (c, Registers(a_registers, a_offset + i * num_a), Registers(b_registers, b_offset + j * num_b)))

        return [*before_a, *before_b, unrolled(span, "i", row_tiles, lambda i: unrolled(span, "j", column_tiles, lambda j: tile(i, j)))]

    def multiply_columns(load: FragmentLoad, columns: Expr) -> Stmt:
        """All steps of the columns of b that one load brings."""
        count, wide = load.piece_elements, load.piece_elements // num_b
        held = product.registers("b_registers", b.tile.buffer.dtype, steps * count)

        def tile(step: Expr, i: Expr, j: Expr) -> Stmt:
            c = Registers(accumulator, (i * column_tiles + columns * wide + j) * num_c)
            return InstructionCall(span, atom, (c, Registers(a.tile.buffer, step * a.count + i * num_a), Registers(held, step * count + j * num_b)))

        def products(step: Expr) -> Stmt:
            return unrolled(span, "i", row_tiles, lambda i: unrolled(span, "j", wide, lambda j: tile(step, i, j)))

        loads = unrolled(span, "k", steps, lambda step: load.emit_piece(columns, step, held, step * count))
        return Seq(span, (loads, unrolled(span, "k", steps, products)))

    if a.load is None and a.rounded is None and b.rounded is None and _is_narrow(b.load, num_b, steps):
        return [unrolled(span, "columns", b.load.pieces, functools.partial(multiply_columns, b.load))]
    is_loop = steps * row_tiles * column_tiles > _UNROLLED_INSTRUCTIONS and a.load is not None and b.load is not None
    num_buffers = 1 if is_loop or steps == 1 else 2
    a.allocate(num_buffers)
    b.allocate(num_buffers)
    if steps == 1:
        return [*a.fetch(const(0)), *b.fetch(const(0)), *multiply(const(0))]
    step = var("k")
    if is_loop:
        return [For(span, step, const(steps), LoopKind.SERIAL, Seq(span, (*a.fetch(step), *b.fetch(step), *multiply(step))))]
    following = [*a.fetch(step + 1), *b.fetch(step + 1)]
    ahead = [If(span, binary(Op.LT, step + 1, const(steps)), Seq(span, tuple(following)))] if following else []
    return [*a.fetch(const(0)), *b.fetch(const(0)), For(span, step, const(steps), LoopKind.UNROLLED, Seq(span, (*ahead, *multiply(step))))]


def _is_narrow(load: FragmentLoad | None, tile_elements: int, steps: int) -> TypeGuard[FragmentLoad]:
    """Whether one load of each step fills fewer registers than all loads of two steps, and is whole instruction tiles."""
    return load is not None and steps < 2 * load.pieces and load.piece_elements % tile_elements == 0
