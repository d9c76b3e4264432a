"""Moving a tile between two fragment layouts of the same warps by shuffles (floor 1): which register each lane sends in which round, to whom.

In one shuffle every lane sends one register and receives one, so the registers that a lane receives need not come from one register of the others. In
round k, lane t receives its destination register `k ^ kept(t)`; `kept` is chosen so that no lane is asked for two different registers at once, and each
lane sends its source register `sent(k) ^ offset(lane)`. Everything is linear over GF(2), so a lane finds both by swapping registers in pairs, once for
each independent part of `kept` and `offset`.

That such a `kept` exists where the warp's source holds all that its destination wants: let Q be the tile modulo what the registers of one lane reach, so a
place in Q is the lane to be asked. Lanes whose first wishes have one place in Q ask one lane. If the wishes do not reach all of Q, a destination register leads
out of what they reach, and half of those lanes receive that one first. If they do, lanes have one place in Q no more often than the source has copies of its
lanes, which can be asked instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from tilewright.layout.digits import LANE, REG, WARP, Axis, LayoutError
from tilewright.layout.gf2 import Span, combine, null_space, set_bits
from tilewright.layout.layout import Layout

PART = "part"  # elements of one word
WORD = "word"  # what one shuffle moves
_WORD_BITS = 32


class IssueSlots(IntEnum):
    """What instructions of a warp cost beside each other.

    An SM shuffles, or accesses shared memory, for 32 lanes per cycle and selects for 64 (CUDA C++ Programming Guide, throughput of native arithmetic
    instructions, compute capabilities 8.0 to 9.0). That a barrier costs eight shuffles is an estimate: some twenty cycles in which a warp waits for others.
    """

    SELECT = 1
    SHUFFLE = 2
    SHARED_ACCESS = 2
    BARRIER = 16


@dataclass(frozen=True, slots=True)
class Swap:
    """Words k and k ^ mask change places on threads where the selected binary digits of lane and warp have an odd sum."""

    mask: int
    lane_digits: int
    warp_digits: int


@dataclass(frozen=True, slots=True)
class ShufflePlan:
    """(reg, lane, warp) of a destination from those of a source, in words of one or more elements.

    source, destination   (part, word) -> (reg,): the elements of word `word`, part 0 lowest. Digits of radix 2 are the low ones of `word`.
    before                swaps of the source's words, in any order.
    sent                  (word,) of the destination -> (word,) of the source that is sent in this round, once swapped.
    sender                (word, lane, warp) -> (lane,) whose word a lane receives in this round.
    after                 swaps of the received words, in any order; then they are the destination's.
    """

    source: Layout
    destination: Layout
    before: tuple[Swap, ...]
    sent: Layout
    sender: Layout
    after: tuple[Swap, ...]

    @property
    def parts(self) -> int:
        """Elements of one word."""
        return self.source.in_axis(PART).extent

    @property
    def stays(self) -> bool:
        """Whether every lane receives its own words where `sender` names no word: those rounds need no shuffle."""
        lanes = self.sender.in_digits(LANE)
        return not any(self.sender.columns_of(WARP)) and all(c == 1 << k for k, c in enumerate(self.sender.columns[lanes.start : lanes.stop]))

    @property
    def rounds(self) -> tuple[tuple[int, int], ...]:
        """(word sent, change of lane) of each destination word."""
        changes = self.sender.drop_input(LANE).drop_input(WARP).table()[:, 0]
        return tuple(zip(self.sent.table()[:, 0].tolist(), changes.tolist(), strict=True))

    @property
    def num_shuffles(self) -> int:
        return len({r for r in self.rounds if r[1] or not self.stays})

    @property
    def num_selects(self) -> int:
        return len(self.before) * self.source.in_axis(WORD).extent + len(self.after) * self.destination.in_axis(WORD).extent

    def cost(self, element_bits: int) -> int:
        """In `IssueSlots`."""
        halves = max(1, self.parts * element_bits // _WORD_BITS)
        return halves * (self.num_shuffles * IssueSlots.SHUFFLE + self.num_selects * IssueSlots.SELECT)


@dataclass(slots=True)
class _Origins:
    """Where the destination's digits come from, as masks over source register digits and over source lane digits."""

    reg: list[tuple[int, int]]
    lane: list[tuple[int, int]]
    warp: list[tuple[int, int]]

    def all(self) -> list[tuple[int, int]]:
        return [*self.reg, *self.lane, *self.warp]


def plan_shuffles(source: Layout, destination: Layout, element_bits: int) -> ShufflePlan | None:
    """The shuffles that make `destination` of `source`, both (reg, lane, warp) -> the same tile; None where another warp would have to help."""
    if sorted(axis.name for axis in source.outs) != sorted(axis.name for axis in destination.outs):
        return None
    source = source.reorder(ins=(REG, LANE, WARP), outs=[axis.name for axis in destination.outs])
    destination = destination.reorder(ins=(REG, LANE, WARP))
    if source.outs != destination.outs or source.ins[1:] != destination.ins[1:] or any(radix != 2 for radix in source.in_axis(LANE).digits):
        return None
    plans = [
        plan
        for is_near in (True, False)
        if (origins := _origins(source, destination, is_near)) is not None and (plan := _plan(source, destination, origins, element_bits)) is not None
    ]
    return min(plans, key=lambda p: p.cost(element_bits), default=None)


def _origins(source: Layout, destination: Layout, is_near: bool) -> _Origins | None:
    """`is_near`: from the own lane wherever it holds the element."""
    num_regs, num_lanes = len(source.in_axis(REG).digits), len(source.in_axis(LANE).digits)
    columns = source.columns[: num_regs + num_lanes]
    held, own = Span(columns), Span(columns[:num_regs])
    low = (1 << num_regs) - 1

    def found(target: int) -> tuple[int, int] | None:
        mask = held.solve(target)
        return None if mask is None else (mask & low, mask >> num_regs)

    made = _Origins([], [], [])
    for column in destination.columns_of(REG):
        origin = found(column)
        if origin is None:
            return None
        made.reg.append(origin)
    for digit, column in enumerate(destination.columns_of(LANE)):
        here = own.solve(column ^ columns[num_regs + digit]) if is_near else None
        origin = found(column) if here is None else (here, 1 << digit)
        if origin is None:
            return None
        made.lane.append(origin)
    for radix, column, theirs in zip(destination.in_axis(WARP).digits, destination.columns_of(WARP), source.columns_of(WARP), strict=True):
        origin = found(column ^ theirs)
        if origin is None or (radix != 2 and origin != (0, 0)):
            return None
        made.warp.append(origin)
    return made


def _plan(source: Layout, destination: Layout, origins: _Origins, element_bits: int) -> ShufflePlan | None:
    num_regs, num_lanes = len(source.in_axis(REG).digits), len(source.in_axis(LANE).digits)
    low = (1 << num_regs) - 1
    copies = [(n & low, n >> num_regs) for n in null_space(source.columns[: num_regs + num_lanes]) if n >> num_regs]
    pairs = _pairs(source, destination, origins, copies, element_bits)
    span = Span()
    redundant = [d for d, column in enumerate(source.columns_of(REG)) if span.insert(column)]  # they repeat what lower digits hold: never sent
    from_source, source_words = _numbered(source, [s for s, _ in pairs], redundant)
    from_destination, destination_words = _numbered(destination, [d for _, d in pairs], [])
    place = {digit: position for position, digit in enumerate(source_words)}

    def renumbered(origin: tuple[int, int]) -> tuple[int, int]:
        """Source register digits as digits of a source word."""
        return sum(1 << place[digit] for digit in set_bits(origin[0])), origin[1]

    reg = [renumbered(origins.reg[d]) for d in destination_words]
    lane, warp = list(map(renumbered, origins.lane)), list(map(renumbered, origins.warp))
    kept = _separate(reg, lane, list(map(renumbered, copies)))
    if kept is None:
        return None
    asked = Span(s for _, s in lane)
    offsets = []  # of what a lane sends, by its digits; where nobody asks, it does not matter
    for digit in range(num_lanes):
        found = asked.solve(1 << digit)
        if found is None:
            asked.insert(1 << digit)
        offsets.append(0 if found is None else combine(found & ((1 << num_lanes) - 1), [r for r, _ in lane]))
    word, lanes, warps = from_destination.in_axis(WORD), destination.in_axis(LANE), destination.in_axis(WARP)
    try:
        return ShufflePlan(
            source=from_source,
            destination=from_destination,
            before=_swaps(offsets, [combine(s, offsets) ^ r for r, s in warp]),
            sent=Layout((word,), (from_source.in_axis(WORD),), tuple(r ^ combine(s, offsets) for r, s in reg)),
            sender=Layout((word, lanes, warps), (lanes,), tuple(s for _, s in (*reg, *lane, *warp))),
            after=_swaps(kept, []),
        )
    except LayoutError:  # an odd digit of registers would have to change with a thread's number
        return None


def _pairs(source: Layout, destination: Layout, origins: _Origins, copies: list[tuple[int, int]], element_bits: int) -> list[tuple[int, int]]:
    """(source, destination) register digits that move together and so may count the elements of a word, lowest first."""
    pairs: list[tuple[int, int]] = []
    for digit, (mine, lanes) in enumerate(origins.reg):
        if element_bits << len(pairs) >= _WORD_BITS:
            break
        is_alone = mine.bit_count() == 1 and lanes == 0 and sum(1 for r, _ in (*origins.all(), *copies) if r & mine) == 1
        if is_alone and destination.in_axis(REG).digits[digit] == 2:
            pairs.append((mine.bit_length() - 1, digit))
    return pairs


def _numbered(fragment: Layout, parts: list[int], left_out: list[int]) -> tuple[Layout, list[int]]:
    """(part, word) -> (reg,) with these digits as the parts, and the register digits of a word, those of radix 2 first."""
    axis = fragment.in_axis(REG)
    rest = [d for d in range(len(axis.digits)) if d not in parts and d not in left_out]
    words = sorted(rest, key=lambda d: axis.digits[d] != 2)
    ins = (Axis(PART, tuple(axis.digits[d] for d in parts)), Axis(WORD, tuple(axis.digits[d] for d in words)))
    return Layout(ins, (axis,), tuple(1 << d for d in (*parts, *words))), words


def _separate(reg: list[tuple[int, int]], lane: list[tuple[int, int]], copies: list[tuple[int, int]]) -> list[int] | None:
    """Per lane digit the destination word that a lane receives in round 0; changes the origins in `lane` so that no lane is asked for two words at once.

    None where there is neither another word to receive first nor a copy to ask for.
    """
    kept = [0] * len(lane)
    asked = Span(s for _, s in lane)
    for digits in _rivals(lane):
        free = next((k for k, (_, change) in enumerate(reg) if not asked.insert(change)), None)
        origin = reg[free] if free is not None else next((c for c in copies if not asked.insert(c[1])), None)
        if origin is None:
            return None
        for digit in set_bits(digits):
            kept[digit] ^= 0 if free is None else 1 << free
            lane[digit] = (lane[digit][0] ^ origin[0], lane[digit][1] ^ origin[1])
    return kept


def _rivals(lane: list[tuple[int, int]]) -> list[int]:
    """How lanes that ask one lane for different words differ: each mask selects lane digits whose XOR tells the lanes of one independent pair apart, and no
    lanes that want the same."""
    registers = [r for r, _ in lane]
    kernel = null_space(s for _, s in lane)  # lanes that ask the same lane
    same = _echelon(combine(s, kernel) for s in null_space(combine(k, registers) for k in kernel))  # and want the same
    rivals = _echelon(_reduce(k, same) for k in kernel)
    functionals = []
    for rival in rivals:
        pivot = 1 << (rival.bit_length() - 1)
        functionals.append(pivot | sum(1 << (s.bit_length() - 1) for s in same if s & pivot))
    return functionals


def _reduce(vector: int, basis: list[int]) -> int:
    """The vector with the highest digits of an echelon basis cleared."""
    for other in basis:
        if vector >> (other.bit_length() - 1) & 1:
            vector ^= other
    return vector


def _echelon(vectors: Iterable[int]) -> list[int]:
    """A basis of the span in which no vector has the highest digit of another."""
    basis: list[int] = []
    for vector in vectors:
        vector = _reduce(vector, basis)
        if vector:
            basis = [_reduce(b, [vector]) for b in basis] + [vector]
    return basis


def _swaps(by_lane: list[int], by_warp: list[int]) -> tuple[Swap, ...]:
    """Register numbers XORed with a mask per digit of a thread's number, as independent swaps."""
    span = Span()
    made: list[list[int]] = []  # mask, lane digits, warp digits
    for kind, masks in enumerate((by_lane, by_warp)):
        for digit, mask in enumerate(masks):
            if mask and span.solve(mask) is None:
                span.insert(mask)
                made.append([mask, 0, 0])
            for number in set_bits(span.solve(mask) or 0):
                made[number][kind + 1] |= 1 << digit
    return tuple(Swap(*s) for s in made)
