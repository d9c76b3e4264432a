"""Shuffles between fragment layouts: each plan executed on arrays of numbers, round by round."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from tests.layout.ptx_fragments import MMA_A, MMA_C, registers_along
from tests.layout.random_layouts import SEEDS, random_layout
from tilewright.layout import Axis, Layout, Reach, ShufflePlan, Swap, distribute, plan_relayout, plan_shuffles

Ints = npt.NDArray[np.int64]


def swapped(words: Ints, swaps: tuple[Swap, ...], layout: Layout) -> Ints:
    """(words, lanes, warps, …) after the swaps."""
    for swap in swaps:
        is_odd = np.zeros(words.shape[1:3], bool)
        for axis, (name, digits) in enumerate((("lane", swap.lane_digits), ("warp", swap.warp_digits))):
            numbers = np.arange(words.shape[1 + axis])
            for digit, (place, radix) in enumerate(zip(layout.in_axis(name).places, layout.in_axis(name).digits, strict=True)):
                if digits >> digit & 1:
                    assert radix == 2
                    is_odd ^= (numbers // place % 2 == 1).reshape((-1, 1) if axis == 0 else (1, -1))
        words = np.where(is_odd[None, :, :, None], words[np.arange(len(words)) ^ swap.mask], words)
    return words


def shuffled(plan: ShufflePlan, source: Layout, destination: Layout) -> Ints:
    """(reg, lane, warp) of the destination, moved as the plan says: the elements of the tile by number."""
    numbers = element_numbers(source)
    words = np.moveaxis(numbers[plan.source.reorder(ins=["word", "part"]).table()[..., 0]], 1, -1)  # word, lane, warp, part
    words = swapped(words, plan.before, destination)
    lanes = plan.sender.reorder(ins=["word", "lane", "warp"]).table()[..., 0]
    sent = plan.sent.table()[:, 0]
    warps = np.arange(words.shape[2])
    received = np.stack([words[sent[k]][lanes[k], warps] for k in range(len(sent))])
    received = swapped(received, plan.after, destination)
    result = np.zeros((destination.in_axis("reg").extent, *numbers.shape[1:]), np.int64)
    result[plan.destination.reorder(ins=["word", "part"]).table()[..., 0]] = np.moveaxis(received, -1, 1)
    return result


def element_numbers(fragment: Layout) -> Ints:
    """(reg, lane, warp): the number of the element that each holds."""
    points = fragment.reorder(ins=["reg", "lane", "warp"]).table()
    return points @ np.cumprod([1, *(axis.extent for axis in fragment.outs[:-1])])


def check(source: Layout, destination: Layout, bits: int = 32) -> ShufflePlan:
    plan = plan_shuffles(source, destination, bits)
    assert plan is not None
    assert np.array_equal(shuffled(plan, source, destination), element_numbers(destination.reorder(outs=[a.name for a in source.outs])))
    assert plan.parts * bits <= max(32, bits)
    return plan


def with_warps(layout: Layout, extent: int = 1) -> Layout:
    return Layout((*layout.ins, Axis.of("warp", extent)), layout.outs, (*layout.columns, *(0,) * len(Axis.of("warp", extent).digits)))


def test_registers_and_lanes_change_places() -> None:
    """32 x 32, a row for each lane, transposed: one shuffle per register, and five swaps before and after."""
    rows = with_warps(Layout.identity((Axis.of("reg", 32), Axis.of("lane", 32))).rename(outs={"reg": "j", "lane": "i"}))
    plan = check(rows, rows.rename(outs={"i": "j", "j": "i"}).reorder(outs=["j", "i"]))
    assert (plan.num_shuffles, len(plan.before), len(plan.after)) == (31, 5, 5)


def test_a_swap_of_one_bit_moves_half_of_the_registers() -> None:
    ins = (Axis.of("reg", 8), Axis.of("lane", 32))
    source = with_warps(Layout.identity(ins).rename(outs={"reg": "a", "lane": "b"}))
    columns = list(source.columns)
    columns[2], columns[7] = columns[7], columns[2]
    plan = check(source, Layout(source.ins, source.outs, tuple(columns)))
    assert (plan.num_shuffles, len(plan.before), len(plan.after)) == (4, 1, 1)
    assert plan.stays


def test_lanes_that_change_places_need_no_swaps() -> None:
    source = with_warps(Layout.identity((Axis.of("reg", 4), Axis.of("lane", 32))).rename(outs={"reg": "a", "lane": "b"}))
    columns = list(source.columns)
    columns[2:7] = columns[6:1:-1]
    plan = check(source, Layout(source.ins, source.outs, tuple(columns)))
    assert (plan.num_shuffles, plan.num_selects) == (4, 0)


@pytest.mark.parametrize("bits, parts, shuffles", [(32, 1, 8), (16, 2, 4), (8, 4, 2)])
def test_registers_that_move_together_are_one_word(bits: int, parts: int, shuffles: int) -> None:
    source = with_warps(registers_along(MMA_C, "n", 2))
    moved = Layout(source.ins, source.outs, tuple(source.columns[k] for k in (0, 1, 2, 4, 3, 5, 6, 7)))
    plan = check(source, moved, bits)
    assert (plan.num_shuffles, plan.parts) == (shuffles, parts)


def test_what_a_thread_holds_already_is_not_shuffled() -> None:
    source = with_warps(registers_along(MMA_C.rename(outs={"n": "k"}), "k", 2))
    plan = check(source, with_warps(MMA_A), 16)
    assert (plan.num_shuffles, plan.num_selects, plan.parts) == (0, 0, 2)


def test_a_copy_in_every_lane_is_read_where_it_is() -> None:
    """All lanes hold all 32 elements, and each wants one of its own."""
    everything = with_warps(Layout((Axis.of("reg", 32), Axis.of("lane", 32)), (Axis.of("i", 32),), tuple(1 << k for k in range(5)) + (0,) * 5))
    one = with_warps(Layout((Axis.of("reg", 1), Axis.of("lane", 32)), (Axis.of("i", 32),), tuple(1 << k for k in range(5))))
    assert check(everything, one).num_shuffles == 0
    assert check(one, everything).num_shuffles == 32


def test_other_warps_are_not_reached() -> None:
    wide, narrow = distribute((64, 64), 128, 4).layout, distribute((64, 64), 128, 1).layout
    assert plan_relayout(wide, narrow).reach is Reach.WARPS
    assert plan_shuffles(wide, narrow, 32) is None


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_random_layouts_of_a_warp_are_moved(seed: int) -> None:
    """Any two layouts of one tile over the registers and lanes of warps that hold the same part of it, copies and redundant registers among them."""
    rng = random.Random(seed)
    odd = rng.choice(((), (3,), (5,)))
    tile = (Axis("m", (2,) * rng.randint(0, 4) + odd), Axis("n", (2,) * rng.randint(0, 3)))
    lane, warp = Axis("lane", (2,) * rng.randint(1, 5)), Axis("warp", rng.choice(((), (2,), (2, 2), (3,), (2, 3))))
    source, destination = (of_warps(rng, random_onto(rng, Axis("reg", (2,) * rng.randint(0, 6) + odd), lane, tile), warp) for _ in range(2))
    if source is None or destination is None:
        return
    plan = plan_shuffles(source, destination, rng.choice((8, 16, 32, 64)))
    assert plan is not None
    assert np.array_equal(shuffled(plan, source, destination), element_numbers(destination))


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_a_plan_of_layouts_that_leave_out_elements_is_right(seed: int) -> None:
    rng = random.Random(seed)
    ins = (Axis("reg", (2,) * rng.randint(1, 4) + (3,)), Axis("lane", (2,) * 3), Axis("warp", (2,)))
    tile = (Axis("m", (2, 2, 3)), Axis("n", (2, 2)))
    source, destination = random_layout(rng, ins, tile), random_layout(rng, ins, tile)
    plan = plan_shuffles(source, destination, 16)
    if plan is not None:
        assert np.array_equal(shuffled(plan, source, destination), element_numbers(destination))


def random_onto(rng: random.Random, reg: Axis, lane: Axis, tile: tuple[Axis, ...]) -> Layout | None:
    """(reg, lane) -> the tile, every element of it somewhere; None where there are too few digits."""
    radices = [radix for axis in tile for radix in axis.digits]
    twos = [bit for bit, radix in enumerate(radices) if radix == 2]
    digits = [d for d, radix in enumerate((*reg.digits, *lane.digits)) if radix == 2]
    if len(digits) < len(twos):
        return None
    columns = [0] * (len(reg.digits) + len(lane.digits))
    for digit, radix in enumerate(reg.digits):
        if radix != 2:
            columns[digit] = 1 << radices.index(radix)
    rng.shuffle(digits)
    for digit, bit in zip(digits, twos, strict=False):
        columns[digit] = 1 << bit
    if rng.random() < 0.5:
        for _ in range(2 * len(digits)):
            first, second = rng.choice(digits), rng.choice(digits)
            if first != second:
                columns[first] ^= columns[second]
    return Layout((reg, lane), tile, tuple(columns))


def of_warps(rng: random.Random, layout: Layout | None, warp: Axis) -> Layout | None:
    """The layout repeated for the parts that warps hold; a warp's numbers may change who holds what in it."""
    if layout is None:
        return None
    count = len(layout.out_radices)
    twos = [c for c, radix in zip(layout.columns, (*layout.ins[0].digits, *layout.ins[1].digits), strict=True) if radix == 2]
    columns = [1 << count + k for k in range(len(warp.digits))]
    columns = [c ^ (rng.choice(twos) if twos and radix == 2 and rng.random() < 0.3 else 0) for c, radix in zip(columns, warp.digits, strict=True)]
    return Layout((*layout.ins, warp), (*layout.outs, Axis("w", warp.digits)), (*layout.columns, *columns))
