"""Matching accesses to hardware: vectors, ldmatrix/stmatrix carried out element by element, operand division, swizzle descriptors."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

from tests.layout.ptx_fragments import (
    MMA_A,
    MMA_B,
    MMA_C,
    WGMMA_A,
    WGMMA_D_N8,
    mma_a_16x16,
    mma_b_16x8,
    mma_c_16x8,
    registers_along,
    warps_along_m,
    wgmma_accumulator,
    wgmma_d,
)
from tests.layout.random_layouts import SEEDS, random_bijection
from tilewright.layout import (
    Axis,
    Embedding,
    Layout,
    MemoryLayout,
    SwizzleMode,
    common_run,
    distribute,
    match_instruction,
    match_matrix_access,
    match_swizzle,
    swizzle_atom,
    swizzled_tile,
    tile_with_atom,
    vector_elements,
    vector_run,
)

# ----------------------------------------------------------------------------------------------------------------- the fixtures


@pytest.mark.parametrize(("layout", "formula"), [(MMA_A, mma_a_16x16), (MMA_B, mma_b_16x8), (MMA_C, mma_c_16x8)])
def test_mma_fragments_are_the_formulas_of_the_isa(layout: Layout, formula: Callable[[int, int], tuple[int, int]]) -> None:
    table = layout.table()
    assert all(tuple(table[reg, lane]) == formula(reg, lane) for reg in range(table.shape[0]) for lane in range(32))
    assert layout.is_bijective


@pytest.mark.parametrize("n", [8, 64, 80, 96, 128, 192, 256])
def test_wgmma_accumulators_are_the_formula_of_the_isa(n: int) -> None:
    layout = wgmma_accumulator(n)
    table = layout.table()
    assert layout.out_axis("n") == Axis.of("n", n)
    assert all(tuple(table[reg, lane, warp]) == wgmma_d(reg, lane, warp) for reg in range(n // 2) for lane in range(32) for warp in range(4))


# ---------------------------------------------------------------------------------------------------------------------- vectors


def longest_aligned_run(table: np.ndarray) -> int:
    """The largest power of two such that every block of that many registers is contiguous and aligned, from addresses (reg, others)."""
    width = 1
    while table.shape[0] % (2 * width) == 0:
        blocks = table.reshape(-1, 2 * width, *table.shape[1:])
        is_run = (blocks - blocks[:, :1] == np.arange(2 * width).reshape(1, -1, *[1] * (table.ndim - 1))).all()
        if not is_run or (blocks[:, 0] % (2 * width)).any():
            break
        width *= 2
    return width


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_vector_elements_is_the_longest_aligned_run(seed: int) -> None:
    rng = random.Random(seed)
    kept = rng.randint(0, 4)
    rest = random_bijection(rng, (Axis("reg", (2,) * rng.randint(0, 2)), Axis("lane", (2, 2, 2)), Axis.of("warp", rng.choice((1, 2, 3)))), "offset")
    access = rest * Layout.identity((Axis("reg", (2,) * kept),)).rename(outs={"reg": "offset"})
    if rng.random() < 0.5 and rest.out_radices[0] == 2:  # spoil the alignment of one vector bit
        columns = list(access.columns)
        columns[access.in_digits("lane")[0]] ^= 1 << rng.randint(0, kept)
        access = Layout(access.ins, access.outs, tuple(columns))
    axis = access.outs[0]
    strides = list(axis.places)
    for digit in range(len(strides)):
        if rng.random() < 0.2:
            strides[digit] += rng.choice((1, 2, 4, 8))
    embedding = Embedding(axis.digits, tuple(strides), rng.choice((0, 0, 0, 4)))
    addresses = embedding.addresses(access.table()[..., 0])
    measured = longest_aligned_run(addresses)
    assert vector_elements(access, embedding) <= measured
    if access.is_injective and embedding.is_natural:
        assert vector_elements(access, embedding) == measured
    assert vector_elements(access, embedding, limit_elements=4) == min(4, vector_elements(access, embedding))


def test_vector_runs_find_registers_in_any_order() -> None:
    memory = Layout.row_major((Axis.of("m", 16), Axis.of("n", 64)))
    fragment = distribute((16, 64), 32, 8).layout.rename(outs={"d0": "m", "d1": "n"})
    access = memory.compose(fragment)
    assert vector_elements(access) == 8
    moved = access.reorder_digits("reg", [3, 1, 0, 2, 4])
    assert vector_elements(moved) == 1
    run = vector_run(moved)
    assert (run.elements, run.digits) == (8, (2, 1, 3))
    order = [*run.digits, *(digit for digit in range(5) if digit not in run.digits)]
    assert vector_elements(moved.reorder_digits("reg", order)) == 8
    assert vector_run(moved, limit_elements=2).elements == 2


def test_swizzles_cap_vectors_at_16_bytes_and_padding_at_the_pad() -> None:
    axes = (Axis.of("m", 64), Axis.of("n", 64))
    fragment = distribute((64, 64), 32, 64).layout.rename(outs={"d0": "m", "d1": "n"})
    assert vector_elements(Layout.row_major(axes).compose(fragment)) == 64
    assert vector_elements(swizzled_tile(axes, 16).compose(fragment)) == 8
    plain = Layout.row_major(axes)
    padded = Embedding.natural(plain.outs[0]).padded(64, 4)
    assert vector_elements(plain.compose(fragment), padded) == 4


def test_the_common_run_of_a_copy() -> None:
    assert [common_run((0, 1, 2), second) for second in ((0, 1, 3), (0, 1, 2, 3), (1,), ())] == [4, 8, 1, 1]


# ---------------------------------------------------------------------------------------------------- ldmatrix and stmatrix


def carry_out(memory: MemoryLayout, fragment: Layout, element_bits: int) -> str:
    """Match, then run ldmatrix on a numbered memory as the ISA describes it, and compare every register with the fragment.

    Gives the qualifier.
    """
    access = memory.layout.compose(fragment)
    match = match_matrix_access(access, element_bits, memory.embedding)
    if match is None:
        return "none"
    per_register = 32 // element_bits
    row_elements = 128 // element_bits
    expected = memory.embedding.addresses(access.reorder_digits("reg", match.register_order).table()[..., 0])  # (reg, lane[, warp])
    rows = memory.embedding.addresses(match.row_addresses.table()[..., 0])  # (repeat, lane[, warp])
    for warp in np.ndindex(*expected.shape[2:]):
        for repeat in range(rows.shape[0]):
            for matrix in range(match.matrices):
                addresses = rows[(repeat, slice(8 * matrix, 8 * matrix + 8), *warp)]
                assert (addresses % row_elements == 0).all()
                for lane in range(32):
                    for element in range(per_register):
                        if match.is_transposed:
                            got = addresses[2 * (lane % 4) + element] + lane // 4
                        else:
                            got = addresses[lane // 4] + lane % 4 * per_register + element
                        reg = (repeat * match.matrices + matrix) * per_register + element
                        assert got == expected[(reg, lane, *warp)]
    return f"x{match.matrices}{'.trans' if match.is_transposed else ''}"


K_MAJOR_B = (Axis.of("n", 8), Axis.of("k", 16))


@pytest.mark.parametrize(
    ("axes", "fragment", "qualifier"),
    [
        ((Axis.of("m", 16), Axis.of("k", 16)), MMA_A, "x4"),
        ((Axis.of("k", 16), Axis.of("m", 16)), MMA_A, "x4.trans"),
        (K_MAJOR_B, MMA_B, "x2"),
        ((Axis.of("k", 16), Axis.of("n", 8)), MMA_B, "x2.trans"),
        ((Axis.of("k", 16), Axis.of("n", 96)), registers_along(MMA_B, "n", 12), "x4.trans"),
        ((Axis.of("n", 24), Axis.of("k", 16)), registers_along(MMA_B, "n", 3), "x2"),
        ((Axis.of("m", 48), Axis.of("k", 80)), registers_along(warps_along_m(MMA_A, 3), "k", 5), "x4"),
        ((Axis.of("m", 64), Axis.of("n", 192)), wgmma_accumulator(192), "x4"),
        ((Axis.of("n", 192), Axis.of("m", 64)), wgmma_accumulator(192), "x4.trans"),
        ((Axis.of("m", 64), Axis.of("n", 8)), WGMMA_D_N8, "x2"),
        ((Axis.of("n", 8),), MMA_C.restrict(reg=2).drop_output("m"), "x1"),  # all rows read one address
    ],
)
def test_matrix_accesses_of_plain_tiles(axes: tuple[Axis, ...], fragment: Layout, qualifier: str) -> None:
    assert carry_out(MemoryLayout.natural(Layout.row_major(axes)), fragment, 16) == qualifier


@pytest.mark.parametrize("columns", [64, 96, 192])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_matrix_accesses_of_swizzled_tiles(columns: int, is_transposed: bool) -> None:
    fragment = warps_along_m(registers_along(MMA_A, "k", columns // 16), 2)
    axes = (Axis.of("m", 32), Axis.of("k", columns))
    memory = MemoryLayout.natural(swizzled_tile(axes[::-1] if is_transposed else axes, 16))
    assert carry_out(memory, fragment, 16) == ("x4.trans" if is_transposed else "x4")


def test_padding_must_keep_rows_aligned() -> None:
    axes = (Axis.of("m", 16), Axis.of("k", 32))
    layout = Layout.row_major(axes)
    fragment = registers_along(MMA_A, "k", 2)
    natural = Embedding.natural(layout.outs[0])
    assert carry_out(MemoryLayout(layout, natural.padded(32, 8)), fragment, 16) == "x4"
    assert carry_out(MemoryLayout(layout, natural.padded(32, 4)), fragment, 16) == "none"


def test_other_element_widths() -> None:
    """8-bit operands have four elements per register, 32-bit ones one; only 16-bit elements can be transposed."""
    group = [{"m": 1}, {"m": 2}, {"m": 4}]
    bytes_a = Layout.from_basis(
        (Axis.of("reg", 16), Axis.of("lane", 32)),
        (Axis.of("m", 16), Axis.of("k", 32)),
        {"reg": [{"k": 1}, {"k": 2}, {"m": 8}, {"k": 16}], "lane": [{"k": 4}, {"k": 8}, *group]},
    )
    words_a = Layout.from_basis(
        (Axis.of("reg", 4), Axis.of("lane", 32)),
        (Axis.of("m", 16), Axis.of("k", 8)),
        {"reg": [{"m": 8}, {"k": 4}], "lane": [{"k": 1}, {"k": 2}, *group]},
    )
    for fragment, bits in ((bytes_a, 8), (words_a, 32)):
        assert carry_out(MemoryLayout.natural(Layout.row_major(fragment.outs)), fragment, bits) == "x4"
        assert carry_out(MemoryLayout.natural(Layout.row_major(fragment.outs[::-1])), fragment, bits) == "none"
    assert match_matrix_access(Layout.row_major(words_a.outs).compose(words_a), 64) is None


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_no_random_access_matches_wrongly(seed: int) -> None:
    """Disturb a matching memory by one XOR: whatever still matches must still load the right elements."""
    rng = random.Random(seed)
    fragment = registers_along(MMA_A, "k", 2)
    memory = Layout.row_major((Axis.of("m", 16), Axis.of("k", 32)))
    twist = Layout.identity(memory.outs)
    columns = list(twist.columns)
    source, target = rng.sample(range(9), 2)
    columns[source] ^= 1 << target
    memory = Layout(memory.outs, memory.outs, tuple(columns)).compose(memory)
    qualifier = carry_out(MemoryLayout.natural(memory), fragment, 16)
    assert qualifier == ("x4" if source >= 3 and target >= 3 else "none")


# ------------------------------------------------------------------------------------------------------------------ instructions


@pytest.mark.parametrize("n", [8, 64, 80, 96, 192])
def test_accumulators_divide_by_their_instruction(n: int) -> None:
    fragment = wgmma_accumulator(n)
    match = match_instruction(fragment, WGMMA_D_N8)
    assert match is not None
    assert match.register_order == tuple(range(len(fragment.in_axis("reg").digits)))
    assert (match.rest * WGMMA_D_N8).is_same_map(fragment)
    assert match.rest.in_axis("reg").extent == n // 8
    assert match_instruction(fragment, MMA_C) is not None  # the warp-level piece divides it as well
    assert match_instruction(fragment, WGMMA_A.rename(outs={"k": "n"})) is None or n % 16 == 0
    if n == 192:
        assert fragment.in_axis("reg").digits == (2, 2, 2, 2, 2, 3)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_division_finds_any_register_numbering(seed: int) -> None:
    rng = random.Random(seed)
    atom = rng.choice((MMA_A, MMA_B, MMA_C, WGMMA_A, WGMMA_D_N8))
    fragment = registers_along(registers_along(atom, atom.outs[1].name, rng.choice((1, 2, 3, 6))), atom.outs[0].name, rng.choice((1, 2)))
    count = len(fragment.in_axis("reg").digits)
    shuffled = fragment.reorder_digits("reg", rng.sample(range(count), count))
    match = match_instruction(shuffled, atom)
    assert match is not None
    assert match.rest * atom == shuffled.reorder_digits("reg", match.register_order)


def test_what_does_not_divide() -> None:
    assert match_instruction(MMA_C, MMA_A) is None
    assert match_instruction(MMA_C.rename(outs={"m": "n", "n": "m"}), MMA_C) is None
    assert match_instruction(MMA_C.restrict(reg=2), MMA_C) is None
    assert match_instruction(MMA_C.drop_input("reg"), MMA_C) is None
    assert match_instruction(warps_along_m(MMA_C, 2), WGMMA_D_N8) is None


# ------------------------------------------------------------------------------------------------------------------- descriptors


@pytest.mark.parametrize(
    ("rows", "columns", "mode", "row_strides", "column_strides"),
    [
        (64, 64, SwizzleMode.B128, (1024, 2048, 4096), ()),
        (128, 128, SwizzleMode.B128, (1024, 2048, 4096, 8192), (16384,)),
        (192, 96, SwizzleMode.B64, (512, 1024, 2048, 4096), (12288,)),
        (80, 80, SwizzleMode.B32, (256, 512), (2560,)),
        (64, 576, SwizzleMode.B128, (1024, 2048, 4096), (8192, 24576)),
        (64, 8, SwizzleMode.NONE, (128, 256, 512), ()),
    ],
)
def test_descriptor_strides(rows: int, columns: int, mode: SwizzleMode, row_strides: tuple[int, ...], column_strides: tuple[int, ...]) -> None:
    axes = (Axis.of("m", rows), Axis.of("k", columns))
    memory = MemoryLayout.natural(swizzled_tile(axes, 16))
    match = match_swizzle(memory, 16, "m", "k")
    assert match is not None
    assert match.mode is mode
    assert tuple(s for s in match.row_strides_bytes)[: len(row_strides)] == row_strides
    assert match.column_strides_bytes[: len(column_strides)] == column_strides
    table = memory.table() * 2
    span = mode.span_elements(16)
    atom = swizzle_atom(mode, 16).table()[..., 0] * 2
    row_digits, column_digits = match.rest.in_axis("m"), match.rest.in_axis("k")
    for row in range(0, rows, 8):
        for column in range(0, columns, span):
            base = _sum(row // 8, row_digits, match.row_strides_bytes) + _sum(column // span, column_digits, match.column_strides_bytes)
            assert np.array_equal(table[row : row + 8, column : column + span], base + atom)
    assert match.uniform_extent(match.row_strides_bytes, row_digits.digits) == rows // 8
    assert match.uniform_extent(match.column_strides_bytes, column_digits.digits) == columns // span
    assert match_swizzle(memory, 16, "k", "m") is None or rows == columns == 8


def _sum(index: int, axis: Axis, strides: tuple[int, ...]) -> int:
    return sum(index // place % radix * stride for place, radix, stride in zip(axis.places, axis.digits, strides, strict=True))


def test_stages_and_padding_between_atoms_are_described() -> None:
    axes = (Axis.of("m", 64), Axis.of("k", 128))
    layout = swizzled_tile(axes, 16)
    padded = MemoryLayout(layout, Embedding.natural(layout.outs[0]).padded(64 * 64, 512))
    match = match_swizzle(padded, 16, "m", "k")
    assert match is not None
    assert (match.mode, match.column_strides_bytes) == (SwizzleMode.B128, (64 * 128 + 1024,))
    staged = MemoryLayout.natural(layout).with_stages(3, 512)
    match = match_swizzle(staged, 16, "m", "k")
    assert match is not None
    assert match.rest.in_axis("stage").digits == (3,)


def test_uneven_repeats_limit_a_descriptor() -> None:
    axes = (Axis.of("m", 32), Axis.of("k", 128))
    atom = swizzle_atom(SwizzleMode.B128, 16, "m", "k")
    columns_first = MemoryLayout.natural(tile_with_atom(atom, axes, ["k", "m"]))
    match = match_swizzle(columns_first, 16, "m", "k")
    assert match is not None
    assert (match.row_strides_bytes, match.column_strides_bytes) == ((2048, 4096), (1024,))
    assert match.uniform_extent((1024, 2048, 8192), (2, 2, 2)) == 4
    assert match.uniform_extent((1024, 2048, 4096), (2, 2, 3)) == 12
    assert match.uniform_extent((), ()) == 1


def test_plain_rows_and_foreign_swizzles_are_no_descriptor() -> None:
    axes = (Axis.of("m", 64), Axis.of("k", 64))
    assert match_swizzle(MemoryLayout.natural(Layout.row_major(axes)), 16, "m", "k") is None
    tile = swizzled_tile(axes, 16)
    columns = list(tile.columns)
    columns[3] ^= 1 << 11  # row digit 3 also toggles a row bit above the atom
    assert match_swizzle(MemoryLayout.natural(Layout(tile.ins, tile.outs, tuple(columns))), 16, "m", "k") is None
    unaligned = Embedding(tile.outs[0].digits, (1, 2, 4, 8, 16, 32, 72, *tile.outs[0].places[7:]))
    assert match_swizzle(MemoryLayout(tile, unaligned), 16, "m", "k") is None
