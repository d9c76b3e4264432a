"""The registers that a product's sums are kept in (floor 4)."""

from __future__ import annotations

from tilewright.arith.lower_layout import lower_layout
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, Op, cast, const, load, logical, select
from tilewright.ir.stmt import If, Stmt, Store
from tilewright.layout import LANE, REG, WARP
from tilewright.ops.gemm.threads import ThreadProduct, unrolled


def accumulate_in(product: ThreadProduct) -> tuple[Buffer, list[Stmt], list[Stmt]]:
    """The sums' registers, what stands before the product and what after: clearing, and conversion where c has another dtype.

    Registers that are padding take part in the product, so they start at zero.
    """
    plan, span, c = product.plan, product.span, product.c.buffer
    if product.c.layout != plan.accumulator_layout:
        raise CompilerBug("the accumulator of a product is not laid out as its plan says")
    wide, layout = plan.accumulator_dtype, plan.accumulator_layout
    zero, count = const(0, wide), layout.in_axis(REG).extent
    sums = c if c.dtype is wide else product.registers("sums", wide, count)
    if product.clear.is_const and product.clear.value:
        before = [unrolled(span, "r", count, lambda r: Store(span, sums, (r,), zero))]
    elif c.dtype is wide:
        before = []
        if not product.clear.is_const:
            before.append(If(span, product.clear, unrolled(span, "r", count, lambda r: Store(span, c, (r,), zero))))
        if any(layout.out_axis(name).extent > extent for name, extent in (("d0", plan.m), ("d1", plan.n))):
            before.append(unrolled(span, "r", count, lambda r: If(span, _is_padding(product, r), Store(span, c, (r,), zero))))
    else:

        def start(r: Expr) -> Stmt:
            is_zero = logical(Op.OR, product.clear, _is_padding(product, r))
            return Store(span, sums, (r,), select(is_zero, zero, cast(load(c, (r,)), wide), is_lazy=True))

        before = [unrolled(span, "r", count, start)]
    after = [] if sums is c else [unrolled(span, "r", count, lambda r: Store(span, c, (r,), cast(load(sums, (r,)), c.dtype)))]
    return sums, before, after


def _is_padding(product: ThreadProduct, register: Expr) -> Expr:
    """Whether a register of the thread lies outside c."""
    plan, layout = product.plan, product.plan.accumulator_layout
    places = lower_layout(layout, {REG: register, LANE: product.lane, WARP: product.warp})
    condition = const(False)
    for name, extent in (("d0", plan.m), ("d1", plan.n)):
        if layout.out_axis(name).extent > extent:
            condition = logical(Op.OR, condition, places[name] >= extent)
    return condition
