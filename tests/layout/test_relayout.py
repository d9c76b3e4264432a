"""Relayouts and reductions of fragments, checked by moving and adding numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings

from tests.layout.ptx_fragments import MMA_A, MMA_C, WGMMA_A, WGMMA_D_N8, registers_along, warps_along_m, wgmma_accumulator
from tests.layout.random_layouts import SEEDS, random_layout
from tilewright.layout import Axis, Layout, LayoutError, Reach, distribute, plan_reduction, plan_relayout
from tilewright.layout.gf2 import set_bits


def moved(source: Layout, destination: Layout) -> Reach:
    """Plan a relayout, check that it fetches every element from where it is and no farther than it says, and give its reach."""
    plan = plan_relayout(source, destination)
    assert np.array_equal(source.reorder(outs=[axis.name for axis in destination.outs]).compose(plan.origin).table(), destination.table())
    kept = {Reach.REGISTERS: ("lane", "warp"), Reach.LANES: ("warp",), Reach.WARPS: ()}[plan.reach]
    for name in kept:
        if destination.has_input(name):
            fetched_from = plan.origin.table()[..., [axis.name for axis in plan.origin.outs].index(name)]
            own = [axis.name for axis in destination.ins].index(name)
            shape = [-1 if position == own else 1 for position in range(len(destination.ins))]
            assert (fetched_from == np.arange(destination.ins[own].extent).reshape(shape)).all()
    return plan.reach


def test_accumulator_to_next_operand_stays_in_registers() -> None:
    """Attention's trick: two n8 pieces of C are one k16 operand A, without moving data."""
    scores = wgmma_accumulator(64).rename(outs={"n": "k"})
    operand = registers_along(WGMMA_A, "k", 4)
    assert moved(scores, operand) is Reach.REGISTERS
    assert moved(registers_along(MMA_C.rename(outs={"n": "k"}), "k", 2), MMA_A) is Reach.REGISTERS


def test_a_transposed_fragment_needs_shuffles() -> None:
    transposed = registers_along(MMA_C, "n", 2).rename(outs={"m": "n", "n": "m"})
    assert moved(registers_along(MMA_C, "n", 2), transposed) is Reach.LANES


def test_rows_per_thread_need_shared_memory() -> None:
    accumulator = warps_along_m(registers_along(MMA_C, "n", 8), 4)
    rows = distribute((64, 64), 128, 8).layout.rename(outs={"d0": "m", "d1": "n"})
    assert moved(accumulator, rows) is Reach.WARPS


def test_broadcast_copies_come_from_the_own_thread() -> None:
    """Reducing n leaves the row value in all lanes of a quad, so spreading it back over columns moves nothing."""
    accumulator = wgmma_accumulator(96)
    maxima = plan_reduction(accumulator, "n").result
    spread = accumulator.drop_output("n")
    assert moved(maxima, spread) is Reach.REGISTERS


def test_odd_digits_move_too() -> None:
    by_register = Layout.identity((Axis.of("reg", 3), Axis.of("lane", 32), Axis.of("warp", 3))).rename(outs={"reg": "a", "lane": "b", "warp": "c"})
    by_warp = by_register.rename(outs={"a": "c", "c": "a"}).reorder(outs=["a", "b", "c"])
    assert moved(by_register, by_warp) is Reach.WARPS
    assert moved(by_register, by_register) is Reach.REGISTERS


def test_missing_elements_are_refused() -> None:
    with pytest.raises(LayoutError, match="does not hold"):
        plan_relayout(MMA_C.restrict(reg=2), MMA_C)
    with pytest.raises(LayoutError, match="keeps the tile"):
        plan_relayout(MMA_C, registers_along(MMA_C, "n", 2))


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_random_relayouts_find_every_element(seed: int) -> None:
    rng = random.Random(seed)
    tile = (Axis.of("m", 8), Axis.of("n", 12))
    ins = (Axis("reg", (2, 2, 2, 3)), Axis("lane", (2, 2, 2, 2)), Axis("warp", (2,)))
    source, destination = random_layout(rng, ins, tile), random_layout(rng, ins, tile)
    held = {tuple(row) for row in source.table().reshape(-1, 2)}
    wanted = {tuple(row) for row in destination.table().reshape(-1, 2)}
    if wanted <= held:
        moved(source, destination)
    else:
        with pytest.raises(LayoutError, match="does not hold"):
            plan_relayout(source, destination)


def reduced_by_steps(fragment: Layout, axis: str) -> None:
    """Carry out the planned steps on exact integers: every holder must end with the sum of its row, each element counted once."""
    plan = plan_reduction(fragment, axis)
    kept = [position for position, out in enumerate(fragment.outs) if out.name != axis]
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 1 << 40, size=[out.extent for out in fragment.outs])
    table = fragment.table().reshape(-1, len(fragment.outs))
    values = tile[tuple(table.T)]
    digits = [(radix, place) for radix, place in zip(fragment.in_radices, _flat_places(fragment), strict=True)]
    for mask in (*plan.register_masks, *plan.lane_masks, *plan.warp_masks):
        values = _combined(values, mask, digits)
    totals = tile.sum(axis=next(p for p, out in enumerate(fragment.outs) if out.name == axis))
    assert np.array_equal(values, totals[tuple(table[:, kept].T)])
    lanes = {digit for name in ("lane",) for digit in fragment.in_digits(name)}
    registers = set(fragment.in_digits("reg"))
    assert all(set(set_bits(mask)) <= registers for mask in plan.register_masks)
    assert all(set(set_bits(mask)) <= registers | lanes for mask in plan.lane_masks)
    assert {tuple(r) for r in plan.result.table().reshape(-1, len(kept))} == {tuple(r) for r in table[:, kept]}


def _flat_places(fragment: Layout) -> list[int]:
    """The weight of each input digit in the row-major number of a point (last input axis fastest)."""
    places: dict[str, list[int]] = {}
    weight = 1
    for axis in reversed(fragment.ins):
        places[axis.name] = [weight * place for place in axis.places]
        weight *= axis.extent
    return [place for axis in fragment.ins for place in places[axis.name]]


def _combined(values: np.ndarray, mask: int, digits: list[tuple[int, int]]) -> np.ndarray:
    """Each point gets the sum over its orbit: x and x ^ mask, or all values of one odd digit."""
    numbers = np.arange(len(values))
    bits = list(set_bits(mask))
    radix = digits[bits[0]][0]
    total = np.zeros_like(values)
    for step in range(radix):
        partner = numbers.copy()
        for bit in bits:
            place = digits[bit][1]
            old = partner // place % radix
            partner += ((old + step) % radix - old) * place
        total += values[partner]
    return total


@pytest.mark.parametrize(
    "fragment",
    [wgmma_accumulator(8), wgmma_accumulator(96), wgmma_accumulator(192), registers_along(MMA_A.rename(outs={"k": "n"}), "n", 5)],
)
@pytest.mark.parametrize("axis", ["m", "n"])
def test_instruction_fragments_reduce_to_exact_sums(fragment: Layout, axis: str) -> None:
    if not fragment.has_input("warp"):
        fragment = warps_along_m(fragment, 3)
    reduced_by_steps(fragment, axis)


def test_the_row_reduction_of_an_accumulator() -> None:
    plan = plan_reduction(WGMMA_D_N8, "n")
    assert (len(plan.register_masks), len(plan.lane_masks), len(plan.warp_masks)) == (1, 2, 0)
    assert plan.result.in_axis("reg").extent == 2  # the two rows of each thread
    down = plan_reduction(WGMMA_D_N8, "m")
    assert (len(down.register_masks), len(down.lane_masks), len(down.warp_masks)) == (1, 3, 2)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_random_fragments_reduce_to_exact_sums(seed: int) -> None:
    """Mixed and replicated fragments included, as long as they hold the whole tile."""
    rng = random.Random(seed)
    tile = (Axis.of("m", 4), Axis.of("n", rng.choice((2, 4, 6))))
    ins = (Axis("reg", (2, 3, 2, 2)), Axis("lane", (2, 2, 2)), Axis("warp", (2, 2)))
    fragment = random_layout(rng, ins, tile)
    if fragment.is_onto:
        reduced_by_steps(fragment, rng.choice("mn"))
