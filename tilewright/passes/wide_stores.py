"""A fragment goes to global memory in accesses of 16 bytes (floor 5).

In the layout of a product's accumulator a thread holds two neighbours of a row, and the lanes that hold the next ones are only four: narrow values, stored
as they lie, fill parts of sectors, and take an instruction for every pair. Here they are converted in place, moved within the warp so that each thread
holds 16 bytes of a row, and stored. Only loops that do nothing but store are changed, where that needs no shared memory.
"""

from __future__ import annotations

import dataclasses

from tilewright.arith.bounds import Facts
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Op, as_expr, const, load
from tilewright.ir.stmt import If, ParallelFor, Seq, Store
from tilewright.ir.visit import rewrite, subexpressions
from tilewright.layout import LANE, REG, WARP, Axis, Layout
from tilewright.layout.digits import log2_exact
from tilewright.passes.loop_layout import LoopPlan

_ACCESS_BITS = 128
_SECTOR_BITS = 256


@dataclasses.dataclass(frozen=True, eq=False)
class WideStore:
    """`convert` writes the values into the fragment `held`, which lies as the loop's source does; `store` stores those of `moved`, which lies as `layout`."""

    held: Buffer
    moved: Buffer
    layout: Layout
    convert: ParallelFor
    store: ParallelFor


def widen_store(loop: ParallelFor, plan: LoopPlan) -> WideStore | None:
    """The loop in two parts; None where its stores are whole sectors, or cannot become accesses of 16 bytes."""
    store = _only_store(loop)
    if store is None or plan.guarded_axes:
        return None
    bits = store.buffer.dtype.storage_bits
    elements = _ACCESS_BITS // bits if store.buffer.dtype.lanes == 1 and not store.buffer.dtype.is_packed else 0
    if elements <= plan.vector_elements or _run_elements(plan.layout) * bits >= _SECTOR_BITS or not _is_aligned(loop, store, elements):
        return None
    layout = wide_layout(plan.layout, elements)
    if layout is None:
        return None
    held, moved = (Buffer(f"{store.buffer.name}_{name}", store.buffer.dtype, plan.extents, Scope.FRAGMENT, store.span) for name in ("values", "moved"))
    convert = dataclasses.replace(loop, body=Store(store.span, held, loop.variables, store.value))
    put = rewrite(loop.body, post=lambda s: dataclasses.replace(store, value=load(moved, loop.variables)) if s is store else s)
    return WideStore(held, moved, layout, convert, dataclasses.replace(loop, body=put))


def wide_layout(layout: Layout, elements: int) -> Layout | None:
    """A fragment's layout with `elements` neighbours of a row in each thread's low registers; the lanes get what these registers held before.

    layout   (reg, lane, warp) -> tile. None where a warp does not hold such runs, or the digits of the layout are not one bit each.
    """
    if any(column & (column - 1) or not column for column in layout.columns) or len(set(layout.columns)) < len(layout.columns):
        return None
    if any(radix != 2 for axis in (layout.in_axis(REG), layout.in_axis(LANE)) for radix in axis.digits):
        return None
    first = layout.out_digits(layout.outs[-1].name).start
    run = [1 << (first + digit) for digit in range(log2_exact(elements))]
    registers, lanes = list(layout.columns_of(REG)), list(layout.columns_of(LANE))
    if not set(run) <= {*registers, *lanes}:
        return None
    # Neighbouring lanes then hold neighbouring runs of a row, where the registers had these.
    spare = sorted((c for c in registers if c not in run), key=lambda c: (c < run[-1], c))
    for wanted in run:
        if wanted in lanes:
            if not spare:
                return None
            given = spare.pop(0)
            lanes[lanes.index(wanted)] = given
            registers[registers.index(given)] = wanted
    registers.sort(key=lambda c: run.index(c) if c in run else len(run))
    return Layout(
        (Axis(REG, layout.in_axis(REG).digits), layout.in_axis(LANE), layout.in_axis(WARP)), layout.outs, (*registers, *lanes, *layout.columns_of(WARP))
    )


def _only_store(loop: ParallelFor) -> Store | None:
    """The store to global memory that is all a loop does, of a value that fragments alone give."""
    conditions, body = [], loop.body
    while not isinstance(body, Store):
        match body:
            case Seq() if len(body.body) == 1:
                body = body.body[0]
            case If() if body.else_body is None:
                conditions.append(body.condition)
                body = body.then_body
            case _:
                return None
    if loop.is_async or body.buffer.scope is not Scope.GLOBAL:
        return None
    loads = [e.buffer.scope for e in subexpressions(body.value) if e.op is Op.LOAD]
    places = [e for root in (*body.indices, *conditions) for e in subexpressions(root) if e.op is Op.LOAD]
    return body if loads and all(scope is Scope.FRAGMENT for scope in loads) and not places else None


def _run_elements(layout: Layout) -> int:
    """Neighbours of a row that a warp stores with one instruction of each lane, its vector among them."""
    first = layout.out_digits(layout.outs[-1].name).start
    columns = {*layout.columns_of(REG)[:1], *layout.columns_of(LANE)}
    count = 0
    while 1 << (first + count) in columns:
        count += 1
    return 1 << count


def _is_aligned(loop: ParallelFor, store: Store, elements: int) -> bool:
    """Whether runs along the loop's last axis are runs of memory that start at a multiple of `elements`."""
    facts, offset = Facts(), const(0)
    for index, stride in zip(store.indices, store.buffer.element_strides(), strict=True):
        offset = offset + index * as_expr(stride)
    parts = facts.linearizer.split(facts.linearizer.form(offset), loop.variables[-1])
    return parts is not None and parts[0].is_constant and parts[0].constant == 1 and facts.range_of_form(parts[1]).is_divisible(elements)
