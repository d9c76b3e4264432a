"""Moving a tile from one fragment layout to another, and reducing a fragment along an axis (floor 1): who must talk to whom.

Both are decided exactly from the columns: a question "can this be had from the same thread, or the same warp?" is a linear system over the
register, then lane, then warp digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tilewright.layout.digits import LANE, REG, WARP, LayoutError
from tilewright.layout.gf2 import Span, combine, null_space, set_bits
from tilewright.layout.layout import Layout


class Reach(Enum):
    """How far data must travel, cheapest first."""

    REGISTERS = "within each thread"
    LANES = "within each warp"
    WARPS = "across warps"


_SPANNED: tuple[tuple[Reach, tuple[str, ...]], ...] = (
    (Reach.REGISTERS, (REG,)),
    (Reach.LANES, (REG, LANE)),
    (Reach.WARPS, (REG, LANE, WARP)),
)


def _digits_of(fragment: Layout, names: tuple[str, ...]) -> list[int]:
    return [digit for name in names if fragment.has_input(name) for digit in fragment.in_digits(name)]


@dataclass(frozen=True, slots=True)
class Relayout:
    """`origin` maps each (reg, lane, warp) of the destination to the (reg, lane, warp) of the source that holds its element.

    REGISTERS: lane and warp are kept, so it is a renaming. LANES: warp is kept, so shuffles do it. WARPS: through shared memory.
    """

    reach: Reach
    origin: Layout


def plan_relayout(source: Layout, destination: Layout) -> Relayout:
    """The cheapest way to turn `source` into `destination`, both (reg, lane, warp) -> the same tile.

    Raises: LayoutError if the tiles differ or the source does not hold every element that the destination wants.
    """
    source = source.reorder(outs=[axis.name for axis in destination.outs])
    if source.outs != destination.outs:
        raise LayoutError(f"a relayout keeps the tile, got {[str(a) for a in source.outs]} and {[str(a) for a in destination.outs]}")
    for reach, searched in _SPANNED:
        kept = tuple(axis.name for axis in destination.ins if axis.name not in searched)
        if any(not source.has_input(name) or source.in_axis(name) != destination.in_axis(name) for name in kept):
            continue
        origin = _origin(source, destination, _digits_of(source, searched), kept)
        if origin is not None:
            return Relayout(reach, origin)
    raise LayoutError("the source fragment does not hold every element of the destination")


def _origin(source: Layout, destination: Layout, searched: list[int], kept: tuple[str, ...]) -> Layout | None:
    """A map destination.ins -> source.ins that keeps the axes `kept` and solves for the digits `searched`."""
    span = Span(source.columns[digit] for digit in searched)
    same_digit = {mine: theirs for name in kept for mine, theirs in zip(destination.in_digits(name), source.in_digits(name), strict=True)}
    columns = []
    for digit, wanted in enumerate(destination.columns):
        image = 1 << same_digit[digit] if digit in same_digit else 0
        found = span.solve(wanted ^ combine(image, source.columns))
        if found is None:
            return None
        columns.append(image | sum(1 << searched[bit] for bit in set_bits(found)))
    try:
        return Layout(destination.ins, source.ins, tuple(columns))
    except LayoutError:  # an odd digit would have to move two odd digits, or one that is shared: not expressible, look farther
        return None


def register_renaming(source: Layout, destination: Layout) -> Layout | None:
    """(reg,) of the destination -> (reg,) of the source that holds the same element in every thread; None where lanes or warps would have to talk."""
    try:
        found = plan_relayout(source, destination)
    except LayoutError:
        return None
    if found.reach is not Reach.REGISTERS:
        return None
    renaming = found.origin
    for axis in renaming.outs:
        if axis.name != REG:
            renaming = renaming.drop_output(axis.name)
    if any(column for axis in renaming.ins if axis.name != REG for column in renaming.columns_of(axis.name)):
        return None
    for axis in renaming.ins:
        if axis.name != REG:
            renaming = renaming.drop_input(axis.name)
    return renaming


@dataclass(frozen=True, slots=True)
class Reduction:
    """Steps that fold a fragment along an axis; each mask selects input digits of the fragment to combine over.

    `register_masks`: serial within a thread. `lane_masks`: butterfly shuffles (lane digits XORed, with a register permutation when register
    digits are set too). `warp_masks`: through shared memory. A radix-2 mask pairs x with x ^ mask; an odd digit stands alone and runs over
    its radix. `result` is the fragment of the reduced tile, redundant registers removed; all threads that took part hold it.
    """

    register_masks: tuple[int, ...]
    lane_masks: tuple[int, ...]
    warp_masks: tuple[int, ...]
    result: Layout


def plan_reduction(fragment: Layout, axis: str) -> Reduction:
    """How to reduce a fragment (reg, lane, warp) -> tile along output axis `axis`, each element counted once despite replication."""
    reduced = fragment.drop_output(axis)
    done = Span(fragment.replication())  # combining over copies would count elements twice
    masks: dict[Reach, list[int]] = {reach: [] for reach in Reach}
    for reach, names in _SPANNED:
        digits = _digits_of(fragment, names)
        for relation in null_space(reduced.columns[digit] for digit in digits):
            mask = sum(1 << digits[bit] for bit in set_bits(relation))
            if not done.insert(mask):
                masks[reach].append(mask)
    return Reduction(tuple(masks[Reach.REGISTERS]), tuple(masks[Reach.LANES]), tuple(masks[Reach.WARPS]), reduced.drop_redundant(REG))
