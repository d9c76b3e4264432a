"""Embeddings and memory layouts: padding, stages, strides."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings

from tests.layout.random_layouts import SEEDS, random_axes, random_bijection
from tilewright.layout import Axis, Embedding, Layout, LayoutError, MemoryLayout, first_collision, swizzled_tile, tile_axes


def test_natural_embedding_is_the_identity() -> None:
    axis = Axis("offset", (2, 3, 2, 5))
    embedding = Embedding.natural(axis)
    assert embedding.is_natural
    assert [embedding(offset) for offset in range(60)] == list(range(60))
    assert embedding.size_elements == 60


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_addresses_agree_with_single_calls(seed: int) -> None:
    rng = random.Random(seed)
    (axis,) = random_axes(rng, "o", (6, 8, 12, 24))
    embedding = Embedding(axis.digits, tuple(rng.randint(-3, 40) for _ in axis.digits), rng.randint(0, 9))
    offsets = np.arange(axis.extent)
    addresses = embedding.addresses(offsets)
    assert addresses.tolist() == [embedding(offset) for offset in range(axis.extent)]
    assert embedding.size_elements == addresses.max() + 1
    if embedding.has_separated_digits:
        assert len(np.unique(addresses)) == axis.extent


def test_embedding_checks_its_arguments() -> None:
    with pytest.raises(LayoutError):
        Embedding((2, 2), (1,))
    with pytest.raises(LayoutError):
        Embedding((2, 2), (1, 2))(4)
    with pytest.raises(LayoutError):
        MemoryLayout(Layout.row_major(tile_axes((4,))), Embedding((2,), (1,)))


@pytest.mark.parametrize(("extents", "row", "padding"), [((32, 32), 32, 8), ((16, 80), 80, 8), ((4, 6, 96), 96, 3), ((4, 6, 96), 576, 4), ((8, 4), 2, 1)])
def test_padding_moves_each_row_by_the_padding(extents: tuple[int, ...], row: int, padding: int) -> None:
    layout = Layout.row_major(tile_axes(extents))
    memory = MemoryLayout(layout, Embedding.natural(layout.outs[0]).padded(row, padding))
    plain = layout.table()[..., 0]
    assert np.array_equal(memory.table(), plain + plain // row * padding)
    assert memory.size_elements == memory.table().max() + 1


def test_padding_inside_a_digit_is_refused() -> None:
    with pytest.raises(LayoutError, match="split a digit"):
        Embedding.natural(Axis.of("offset", 24)).padded(12, 1)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_stages_are_disjoint_aligned_copies(seed: int) -> None:
    rng = random.Random(seed)
    memory = MemoryLayout.natural(random_bijection(rng, random_axes(rng, "ab", (2, 3, 4, 6, 8)), "offset"))
    stages, alignment = rng.choice((1, 2, 3, 4, 5, 6)), rng.choice((1, 16, 7))
    staged = memory.with_stages(stages, alignment)
    table = staged.table()
    stride = -(-memory.size_elements // alignment) * alignment
    for stage in range(stages):
        assert np.array_equal(table[stage], memory.table() + stage * stride)
    assert first_collision(table[..., None]) is None
    assert staged.size_elements == table.max() + 1
    with pytest.raises(LayoutError, match="already"):
        staged.with_stages(2)


def test_three_stages_of_a_swizzled_odd_tile() -> None:
    memory = MemoryLayout.natural(swizzled_tile(tile_axes((96, 192)), 16)).with_stages(3, 512)
    table = memory.table()
    assert table.shape == (3, 96, 192)
    assert sorted(table.reshape(-1).tolist()) == list(range(3 * 96 * 192))


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_strided_is_the_sum_of_digit_strides(seed: int) -> None:
    rng = random.Random(seed)
    axes = random_axes(rng, "ab", (1, 2, 3, 4, 6, 8))
    strides = [[rng.choice((0, 0, 1, 5, 16, 40)) for _ in axis.digits] for axis in axes]
    base = rng.randint(0, 3)
    memory = MemoryLayout.strided(axes, strides, base)
    expected = np.full([axis.extent for axis in axes], base)
    for position, (axis, row) in enumerate(zip(axes, strides, strict=True)):
        coordinate = np.arange(axis.extent)
        value = sum(
            (coordinate // place % radix * stride for place, radix, stride in zip(axis.places, axis.digits, row, strict=True)),
            0 * coordinate,
        )
        expected = expected + (value[:, None] if position == 0 else value[None, :])
    assert np.array_equal(memory.table(), expected)
    assert memory.size_elements == expected.max() + 1
    assert memory(a=axes[0].extent - 1, b=0) == expected[-1, 0]
