"""Bank conflicts: the rank formula and the enumeration against a count written out lane by lane."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings

from tests.layout.ptx_fragments import MMA_A, MMA_C, warps_along_m
from tests.layout.random_layouts import SEEDS
from tilewright.layout import Axis, Embedding, Layout, LayoutError, MemoryLayout, bank_conflict_ways, swizzled_tile
from tilewright.layout.banks import _enumerated_ways, phase_lane_digits


def counted_ways(lane_addresses: list[int], element_bits: int, vector_elements: int) -> int:
    """Serve the lanes phase by phase: the most distinct 4-byte words that any of the 32 banks is asked for."""
    lane_bytes = max(4, element_bits * vector_elements // 8)
    phase = 128 // lane_bytes
    worst = 0
    for start in range(0, len(lane_addresses), phase):
        words: set[int] = set()
        for address in lane_addresses[start : start + phase]:
            first_bit = address * element_bits
            words.update(range(first_bit // 32, (first_bit + element_bits * vector_elements - 1) // 32 + 1))
        worst = max(worst, *(sum(word % 32 == bank for word in words) for bank in range(32)))
    return worst


def counted_ways_of_access(access: Layout, element_bits: int, vector_elements: int, embedding: Embedding) -> int:
    order = [axis.name for axis in access.ins if axis.name != "lane"]
    table = access.reorder(ins=[*order, "lane"]).table()[..., 0]
    if "reg" in order:
        assert order[0] == "reg"
        table = table[::vector_elements]
    rows = table.reshape(-1, table.shape[-1])
    return max(counted_ways([embedding(int(offset)) for offset in row], element_bits, vector_elements) for row in rows)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_rank_formula_equals_the_count(seed: int) -> None:
    """Random linear accesses with aligned vectors of 1 to 16 bytes per lane."""
    rng = random.Random(seed)
    element_bits = rng.choice((8, 16, 32))
    vector = rng.choice([v for v in (1, 2, 4, 8, 16) if v * element_bits <= 128])
    low = vector.bit_length() - 1
    offset = Axis.of("offset", 1 << 12)
    lanes = tuple(rng.choice((1 << rng.randint(low, 11), rng.getrandbits(12))) >> low << low for _ in range(5))
    others = tuple(rng.getrandbits(12) >> low << low for _ in range(2))
    access = Layout(
        (Axis.of("reg", vector * 2), Axis.of("lane", 32), Axis.of("warp", 2)),
        (offset,),
        (*(1 << b for b in range(low)), others[0], *lanes, others[1]),
    )
    expected = counted_ways_of_access(access, element_bits, vector, Embedding.natural(offset))
    assert bank_conflict_ways(access, element_bits, vector) == expected
    assert _enumerated_ways(access, element_bits, vector, Embedding.natural(offset)) == expected


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_padded_and_odd_strides_are_counted(seed: int) -> None:
    """Strides that carry into the bank bits: 80-wide rows, paddings, random digit strides."""
    rng = random.Random(seed)
    digits = (2, 2, 2, 5, 2, 2, 2)
    strides = tuple(8 * rng.randint(1, 40) for _ in digits)
    embedding = Embedding(digits, strides)
    offset = Axis("offset", digits)
    lanes = rng.sample([0, 1, 2, 4, 5, 6], 5)
    access = Layout((Axis("lane", (2,) * 5), Axis("rest", (5,))), (offset,), (*(1 << bit for bit in lanes), 8))
    for element_bits, vector in ((16, 1), (16, 8), (32, 2)):
        assert bank_conflict_ways(access, element_bits, vector, embedding) == counted_ways_of_access(access, element_bits, vector, embedding)


def test_strides_that_repeat_are_not_taken_for_bits() -> None:
    """Two digits of stride 16 words: lanes meet at the same word or carry into the next bit, which no rank can tell."""
    embedding = Embedding((2,) * 5, (1, 16, 16, 32, 32))
    access = Layout.identity((Axis.of("lane", 32),)).rename(outs={"lane": "offset"})
    assert bank_conflict_ways(access, 32, 1, embedding) == counted_ways_of_access(access, 32, 1, embedding) == 4


def rows_of_eight(memory: Layout) -> Layout:
    """ldmatrix phases: eight lanes take eight rows of 16 bytes, (lane) -> offset, over the first rows and columns of a tile (m, k)."""
    rows = Layout.from_basis((Axis.of("lane", 32),), memory.ins, {"lane": [{"m": 1}, {"m": 2}, {"m": 4}, {"m": 8}, {"k": 8}]})
    return memory.compose(rows)


def test_the_128_byte_swizzle_removes_the_8_way_conflict_of_plain_rows() -> None:
    axes = (Axis.of("m", 64), Axis.of("k", 64))
    assert bank_conflict_ways(rows_of_eight(Layout.row_major(axes)), 16, 8) == 8
    assert bank_conflict_ways(rows_of_eight(swizzled_tile(axes, 16)), 16, 8) == 1


def test_padding_by_16_bytes_removes_it_too() -> None:
    layout = Layout.row_major((Axis.of("m", 64), Axis.of("k", 64)))
    padded = MemoryLayout(layout, Embedding.natural(layout.outs[0]).padded(64, 8))
    assert bank_conflict_ways(rows_of_eight(layout), 16, 8, padded.embedding) == 1


@pytest.mark.parametrize("columns", [64, 96, 80, 192, 576])
def test_accumulators_stored_to_plain_rows(columns: int) -> None:
    """Pairs of float32 of the mma C fragment into row-major tiles of any width: formula or enumeration, same as the count."""
    layout = Layout.row_major((Axis.of("m", 64), Axis.of("n", columns)))
    rest = Layout.row_major((Axis("n", Axis.of("n", columns).digits[3:]),), "reg").inverse()
    fragment = warps_along_m(rest * MMA_C, 4)
    access = layout.compose(fragment)
    embedding = Embedding.natural(layout.outs[0])
    expected = counted_ways_of_access(access.reorder(ins=["reg", "warp", "lane"]), 32, 2, embedding)
    assert bank_conflict_ways(access, 32, 2) == expected


def test_broadcast_is_no_conflict() -> None:
    offset = Axis.of("offset", 64)
    assert bank_conflict_ways(Layout.zero((Axis.of("lane", 32),), (offset,)), 32) == 1
    access = Layout.row_major((Axis.of("m", 16), Axis.of("k", 16))).compose(MMA_A)
    table = access.reorder(ins=["reg", "lane"])
    assert bank_conflict_ways(access, 16, 2) == counted_ways_of_access(table, 16, 2, Embedding.natural(access.outs[0]))


def test_phases() -> None:
    assert [1 << phase_lane_digits(bits) for bits in (8, 16, 32, 64, 128)] == [32, 32, 32, 16, 8]
    with pytest.raises(LayoutError):
        phase_lane_digits(256)
    with pytest.raises(LayoutError):
        phase_lane_digits(96)


def test_a_permutation_of_words_never_conflicts() -> None:
    words = np.arange(32)
    access = Layout.identity((Axis.of("lane", 32),)).rename(outs={"lane": "offset"})
    assert counted_ways(words.tolist(), 32, 1) == bank_conflict_ways(access, 32) == 1
