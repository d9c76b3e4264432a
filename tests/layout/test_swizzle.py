"""Swizzle atoms against the address formula of the PTX ISA, swizzled tiles, and the search for conflict-free swizzles."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings

from tests.layout.ptx_fragments import MMA_A, MMA_C, WGMMA_D_N8, registers_along, warps_along_m, wgmma_accumulator
from tests.layout.random_layouts import SEEDS
from tilewright.layout import (
    Axis,
    Layout,
    LayoutError,
    SharedAccess,
    SwizzleMode,
    bank_conflict_ways,
    banked_base,
    distribute,
    search_swizzle,
    swizzle_atom,
    swizzled_tile,
    tile_axes,
    tile_with_atom,
    widest_swizzle,
)

MODES = list(SwizzleMode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("element_bits", [4, 8, 16, 32, 64])
def test_atoms_follow_the_address_formula(mode: SwizzleMode, element_bits: int) -> None:
    """Byte address a of the plain atom moves to a ^ ((a >> 7) & (2^b - 1)) << 4 with b = 0, 1, 2, 3 toggled bits."""
    atom = swizzle_atom(mode, element_bits)
    span = mode.span_elements(element_bits)
    row, column = np.meshgrid(np.arange(8), np.arange(span), indexing="ij")
    bits = (row * span + column) * element_bits
    address, low = bits // 8, bits % 8
    toggled = address ^ ((address >> 7 & (mode.span_bytes // 16 - 1)) << 4)
    assert np.array_equal(atom.table()[..., 0] * element_bits, toggled * 8 + low)
    assert atom.is_bijective
    assert mode.repeat_bytes == 8 * mode.span_bytes


def test_the_documented_formula_of_the_widest_atom() -> None:
    table = swizzle_atom(SwizzleMode.B128, 16).table()[..., 0]
    assert all(table[r, c] == 64 * r + (c ^ 8 * r) for r in range(8) for c in range(64))


@pytest.mark.parametrize(
    ("extents", "element_bits", "mode"),
    [
        ((128, 64), 16, SwizzleMode.B128),
        ((128, 192), 16, SwizzleMode.B128),
        ((192, 96), 16, SwizzleMode.B64),
        ((80, 80), 16, SwizzleMode.B32),
        ((64, 576), 16, SwizzleMode.B128),
        ((8, 24), 16, SwizzleMode.NONE),
        ((128, 96), 8, SwizzleMode.B32),
        ((12, 64), 16, None),
        ((64, 20), 16, None),
    ],
)
def test_swizzled_tiles_fill_memory_once(extents: tuple[int, int], element_bits: int, mode: SwizzleMode | None) -> None:
    assert widest_swizzle(*extents, element_bits) is mode
    axes = tile_axes((3, *extents))
    if mode is None:
        with pytest.raises(LayoutError, match="no swizzle atom"):
            swizzled_tile(axes, element_bits)
        return
    table = swizzled_tile(axes, element_bits).table()[..., 0]
    span = mode.span_elements(element_bits)
    s, i, j = np.meshgrid(*(np.arange(axis.extent) for axis in axes), indexing="ij")
    plain = ((s * (extents[1] // span) + j // span) * extents[0] + i) * span + j % span
    address = plain * element_bits // 8
    toggled = address ^ ((address >> 7 & (mode.span_bytes // 16 - 1)) << 4)
    assert np.array_equal(table * element_bits // 8, toggled)
    assert sorted(table.reshape(-1).tolist()) == list(range(table.size))


def test_tiles_that_do_not_fit_are_refused() -> None:
    with pytest.raises(LayoutError, match="does not tile"):
        swizzled_tile(tile_axes((64, 96)), 16, SwizzleMode.B128)
    with pytest.raises(LayoutError, match="two axes"):
        swizzled_tile(tile_axes((64,)), 16)


def test_tile_order_is_free() -> None:
    axes = tile_axes((32, 128))
    atom = swizzle_atom(SwizzleMode.B128, 16, "d0", "d1")
    rows_first = tile_with_atom(atom, axes, ["d0", "d1"])
    columns_first = tile_with_atom(atom, axes, ["d1", "d0"])
    assert rows_first.table()[8, 0, 0] == 512 == columns_first.table()[0, 64, 0]
    assert rows_first.is_bijective
    assert columns_first.is_bijective


def ways(memory: Layout, access: SharedAccess, element_bits: int) -> int:
    return bank_conflict_ways(memory.compose(access.layout), element_bits, access.vector_elements)


def row_vectors(rows: int, columns: int, vector: int, threads: int = 128) -> SharedAccess:
    """The coalesced copy of a tile to global memory."""
    layout = distribute((rows, columns), threads, vector).layout
    return SharedAccess(layout.rename(outs={"d0": "m", "d1": "n"}), vector)


def matrix_rows(rows: int, columns: int) -> SharedAccess:
    """stmatrix.x4: lanes 0-7 give rows, the others further matrices; vectors of 16 bytes."""
    axes = (Axis.of("m", rows), Axis.of("n", columns))
    return SharedAccess(Layout.from_basis((Axis.of("lane", 32),), axes, {"lane": [{"m": 1}, {"m": 2}, {"m": 4}, {"m": 8}, {"n": 8}]}), 8)


def column_scalars(rows: int, columns: int) -> SharedAccess:
    """Reading a tile transposed: neighbouring lanes on neighbouring rows."""
    layout = distribute((columns, rows), 32, 1).layout
    return SharedAccess(layout.rename(outs={"d0": "n", "d1": "m"}).reorder(outs=["m", "n"]), 1)


CASES: dict[str, tuple[int, int, int, list[SharedAccess]]] = {
    "wgmma accumulator, float32, pairs in, rows out": (64, 128, 32, [SharedAccess(wgmma_accumulator(128), 2), row_vectors(64, 128, 4)]),
    "mma C as float16 pairs in, rows out": (
        64,
        64,
        16,
        [SharedAccess(warps_along_m(registers_along(MMA_C, "n", 8), 4), 2), row_vectors(64, 64, 8)],
    ),
    "stmatrix in, rows out": (64, 192, 16, [matrix_rows(64, 192), row_vectors(64, 192, 8)]),
    "odd width 96": (64, 96, 16, [SharedAccess(wgmma_accumulator(96), 2), row_vectors(64, 96, 8)]),
    "odd width 80": (64, 80, 16, [SharedAccess(wgmma_accumulator(80), 2), row_vectors(64, 80, 8)]),
    "transpose, float32": (32, 32, 32, [row_vectors(32, 32, 1, 32), column_scalars(32, 32)]),
}


@pytest.mark.parametrize("name", CASES)
def test_search_finds_conflict_free_swizzles(name: str) -> None:
    rows, columns, element_bits, accesses = CASES[name]
    axes = (Axis.of("m", rows), Axis.of("n", columns))
    base = banked_base(axes)
    memory = search_swizzle(base, accesses, element_bits)
    assert memory.is_bijective
    assert sorted(memory.table().reshape(-1).tolist()) == list(range(rows * columns))
    widest = max(access.vector_elements for access in accesses)
    assert [ways(memory, access, element_bits) for access in accesses] == [1] * len(accesses)
    low = memory.restrict(m=1, n=widest).table()[0, :, 0]
    assert low.tolist() == list(range(widest))  # vectors stay contiguous


def test_search_keeps_a_base_that_is_already_free() -> None:
    base = banked_base((Axis.of("m", 8), Axis.of("n", 64)))
    assert search_swizzle(base, [row_vectors(8, 64, 8, 32)], 16) == base
    assert search_swizzle(base, [], 16) == base


def test_wide_vectors_and_scalar_columns_meet_at_the_least_possible_conflict() -> None:
    """Eight 16-byte slots span the banks, so 32 lanes on 32 rows share them four by four whatever the swizzle."""
    accesses = [row_vectors(64, 64, 4), column_scalars(64, 64)]
    memory = search_swizzle(banked_base((Axis.of("m", 64), Axis.of("n", 64))), accesses, 32)
    assert [ways(memory, access, 32) for access in accesses] == [1, 4]


def test_search_does_what_it_can_when_conflicts_are_unavoidable() -> None:
    """Three accesses of 32 words that no XOR swizzle serves alike still get a one-to-one layout, no worse than plain rows in total."""
    axes = (Axis.of("m", 4), Axis.of("n", 16))
    base = banked_base(axes)
    lanes = (Axis.of("lane", 32),)
    spreads = [
        (1, 2, 4, 8, 16),
        (1, 2, 4, 8, 32),
        (2, 4, 8, 16, 32),
        (1, 2, 4, 16, 32),
        (1, 2, 8, 16, 32),
        (1, 4, 8, 16, 32),
        (3, 4, 8, 16, 32),
        (1, 6, 8, 16, 32),
    ]
    back = base.inverse()
    accesses = [SharedAccess(back.compose(Layout(lanes, base.outs, columns)), 1) for columns in spreads]
    memory = search_swizzle(base, accesses, 32)
    assert memory.is_bijective
    assert sum(ways(memory, access, 32) for access in accesses) <= sum(ways(base, access, 32) for access in accesses)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_two_accesses_can_always_be_served(seed: int) -> None:
    """Any two full-word lane spaces have a common complement, so with room above the bank span the search must succeed."""
    rng = random.Random(seed)
    axes = (Axis.of("m", 32), Axis.of("n", 32))
    base = banked_base(axes)
    accesses = []
    for _ in range(2):
        bits = rng.sample(range(10), 5)
        layout = base.inverse().compose(Layout((Axis.of("lane", 32),), base.outs, tuple(1 << bit for bit in bits)))
        accesses.append(SharedAccess(layout, 1))
    memory = search_swizzle(base, accesses, 32)
    assert memory.is_bijective
    assert [ways(memory, access, 32) for access in accesses] == [1, 1]


def test_search_refuses_a_base_with_odd_bank_digits() -> None:
    with pytest.raises(LayoutError, match="all twos"):
        search_swizzle(Layout.row_major((Axis.of("m", 64), Axis.of("n", 12))), [], 16)


def test_banked_base_puts_odd_digits_last() -> None:
    base = banked_base((Axis.of("m", 192), Axis.of("n", 80)))
    assert base.is_bijective
    assert base.outs[0].digits == (2,) * 10 + (5, 3)
    assert banked_base(tile_axes((16, 64))) == Layout.row_major(tile_axes((16, 64)))


def test_ldmatrix_rows_of_swizzled_operands_are_free_in_every_mode_wide_enough() -> None:
    fragment = warps_along_m(registers_along(MMA_A, "k", 2), 4)
    for columns, mode in ((64, SwizzleMode.B128), (32, SwizzleMode.B64)):
        memory = swizzled_tile((Axis.of("m", 64), Axis.of("k", columns)), 16, mode)
        rows = Layout.from_basis((Axis.of("lane", 32),), memory.ins, {"lane": [{"m": 1}, {"m": 2}, {"m": 4}, {"m": 8}, {"k": 8}]})
        assert bank_conflict_ways(memory.compose(rows), 16, 8) == 1
    assert fragment.out_axis("m").extent == 64
    assert WGMMA_D_N8.is_bijective
