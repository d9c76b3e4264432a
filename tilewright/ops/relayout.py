"""A fragment in another layout (floor 4): what layout inference puts where threads read what other lanes of their warp hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tilewright import dtypes
from tilewright.arith.lower_layout import lower_layout
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer, Region
from tilewright.ir.expr import Expr, Op, binary, const, load, select, var
from tilewright.ir.stmt import WARP_THREADS, For, If, Let, LoopKind, Seq, Stmt, Store, WarpExchange, WarpExchangeKind
from tilewright.ir.tileop import Effects, ReferenceEnvironment, ThreadContext, TileOp
from tilewright.ir.visit import substitute
from tilewright.layout import LANE, REG, WARP, Axis, IssueSlots, Layout, ShufflePlan, Swap, bank_conflict_ways, plan_shuffles, vector_elements
from tilewright.layout.gf2 import set_bits
from tilewright.layout.match import ROW_BITS
from tilewright.layout.shuffles import PART, WORD

_UNSIGNED = {8: dtypes.uint8, 16: dtypes.uint16, 32: dtypes.uint32}


def cheapest_shuffles(source: Layout, destination: Layout, dtype: DType) -> ShufflePlan | None:
    """The shuffles that bring a fragment to another layout; None where there are none, or shared memory and its two barriers cost less."""
    if dtype.is_packed or dtype.lanes > 1:
        return None
    plan = plan_shuffles(source, destination, dtype.storage_bits)
    if plan is None:
        return None
    through_memory = sum(_num_accesses(f, dtype.storage_bits) for f in (source, destination)) * IssueSlots.SHARED_ACCESS + 2 * IssueSlots.BARRIER
    return plan if plan.cost(dtype.storage_bits) <= through_memory else None


def _num_accesses(fragment: Layout, bits: int) -> int:
    """How often shared memory serves a warp that stores or loads a row-major tile, 32 banks at a time."""
    access = Layout.row_major(fragment.outs).compose(fragment)
    elements = vector_elements(access, limit_elements=max(1, ROW_BITS // bits))
    return fragment.in_axis(REG).extent // elements * max(1, bits * elements // 32) * bank_conflict_ways(access, bits, elements)


@dataclass(frozen=True, eq=False)
class Relayout(TileOp):
    """dst = src, both whole fragments of one shape and dtype whose warps hold the same parts of the tile."""

    src: Region
    dst: Region

    def effects(self) -> Effects:
        return Effects(reads=(self.src,), writes=(self.dst,))

    def reference(self, environment: ReferenceEnvironment) -> None:
        environment.array(self.dst.buffer)[...] = environment.array(self.src.buffer)

    def lower_to_threads(self, context: ThreadContext) -> Stmt:
        """The rounds of `layout.shuffles`, between the swaps of registers before and after them."""
        (held, source), (wanted, target) = context.fragment(self.src.buffer), context.fragment(self.dst.buffer)
        bits = self.src.dtype.storage_bits
        plan = plan_shuffles(held, wanted, bits)
        if plan is None:
            raise CompilerBug(f"{self.src.buffer.name} cannot be moved to the layout of {self.dst.buffer.name} within warps")
        word = _UNSIGNED[bits * plan.parts] if bits < 32 else source.dtype
        if bits < 32:  # only bits move
            source, target = (context.registers(b.name, _UNSIGNED[bits], b.static_shape[0], self.span, b) for b in (source, target))
        body: list[Stmt] = []
        words = self._gathered(context, plan, source, word, body)
        words = self._swapped(context, plan.before, words, wanted, body)
        received = context.registers("received", word, plan.sent.in_axis(WORD).extent, self.span)
        body += self._rounds(context, plan, words, received)
        received = self._swapped(context, plan.after, received, wanted, body)
        parts = self._as_parts(context, plan, received, source.dtype)
        body.append(self._each(plan, plan.destination, lambda at, place: Store(self.span, target, (at,), load(parts, (place,)))))
        made = Seq(self.span, tuple(body))
        warps = wanted.in_axis(WARP).extent
        has_idle_warps = warps * wanted.in_axis(LANE).extent < context.num_threads
        return If(self.span, context.warp < warps, made) if has_idle_warps else made

    def _gathered(self, context: ThreadContext, plan: ShufflePlan, source: Buffer, word: DType, body: list[Stmt]) -> Buffer:
        """The source as words."""
        if _is_identity(plan.source):
            return source
        words = context.registers("words", word, plan.source.in_axis(WORD).extent, self.span)
        parts = self._as_parts(context, plan, words, source.dtype)
        body.append(self._each(plan, plan.source, lambda at, place: Store(self.span, parts, (place,), load(source, (at,)))))
        return words

    def _as_parts(self, context: ThreadContext, plan: ShufflePlan, words: Buffer, dtype: DType) -> Buffer:
        """The words as the elements that they are made of."""
        return words if plan.parts == 1 else context.registers("parts", dtype, words.static_shape[0] * plan.parts, self.span, words)

    def _each(self, plan: ShufflePlan, places: Layout, body: Callable[[Expr, Expr], Stmt]) -> Stmt:
        """`body` of the register and the place among the parts of every element."""
        word, part = var("w"), var("e")
        inner = body(lower_layout(places, {WORD: word, PART: part})[REG], word * plan.parts + part)
        return self._unrolled(word, places.in_axis(WORD).extent, self._unrolled(part, plan.parts, inner))

    def _unrolled(self, variable: Expr, count: int, body: Stmt) -> Stmt:
        return For(self.span, variable, const(count), LoopKind.UNROLLED, body) if count > 1 else substitute(body, {variable: const(0)})

    def _swapped(self, context: ThreadContext, swaps: tuple[Swap, ...], words: Buffer, fragment: Layout, body: list[Stmt]) -> Buffer:
        count = words.static_shape[0]
        for swap in swaps:
            changes, word = var("changes", dtypes.bool_), var("w")
            digits = [_digit(context.lane, fragment.in_axis(LANE), d) for d in set_bits(swap.lane_digits)]
            digits += [_digit(context.warp, fragment.in_axis(WARP), d) for d in set_bits(swap.warp_digits)]
            total = digits[0]
            for digit in digits[1:]:
                total = binary(Op.BIT_XOR, total, digit)
            swapped = context.registers("swapped", words.dtype, count, self.span)
            other = binary(Op.BIT_XOR, word, const(swap.mask))
            chosen = Store(self.span, swapped, (word,), select(changes, load(words, (other,)), load(words, (word,))))
            body += [Let(self.span, changes, binary(Op.EQ, total, const(1))), self._unrolled(word, count, chosen)]
            words = swapped
        return words

    def _rounds(self, context: ThreadContext, plan: ShufflePlan, words: Buffer, received: Buffer) -> list[Stmt]:
        made: list[Stmt] = []
        kind, near = WarpExchangeKind.SHUFFLE_XOR, None
        if not plan.stays:
            kind, near = WarpExchangeKind.SHUFFLE, var("sender")
            made.append(Let(self.span, near, lower_layout(plan.sender, {WORD: const(0), LANE: context.lane, WARP: context.warp})[LANE]))
        for word, (sent, change) in enumerate(plan.rounds):
            value: Expr = load(words, (const(sent),))
            if change or near is not None:
                other, operand = var("other", words.dtype), const(change) if near is None else binary(Op.BIT_XOR, near, const(change))
                made.append(WarpExchange(self.span, other, kind, value, operand, WARP_THREADS, const(0xFFFFFFFF, dtypes.uint32)))
                value = other
            made.append(Store(self.span, received, (const(word),), value))
        return made


def _digit(number: Expr, axis: Axis, digit: int) -> Expr:
    """One digit, of radix 2, of a thread's number."""
    return number // axis.places[digit] % 2


def _is_identity(places: Layout) -> bool:
    return places.in_axis(PART).extent == 1 and places.columns == tuple(1 << d for d in range(len(places.out_radices)))
