"""Giving tiles to threads: coverage, vectors, guards, and the choices for well-known shapes."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings

from tests.layout.random_layouts import SEEDS
from tilewright.layout import Axis, Distribution, Layout, LayoutError, distribute


def check(result: Distribution) -> None:
    """Every cell has one elected writer, other cells lie outside the extents, vectors are contiguous, aligned and within the extents."""
    layout, extents = result.layout, result.extents
    assert [axis.name for axis in layout.ins] == ["reg", "lane", "warp"]
    table = layout.table()
    pinned = set(layout.replicated_digits())
    is_writer = np.ones(table.shape[:-1], dtype=bool)
    for position, axis in enumerate(layout.ins):
        shape = [1, 1, 1]
        shape[position] = axis.extent
        coordinate = np.arange(axis.extent).reshape(shape)
        for digit, place, radix in zip(layout.in_digits(axis.name), axis.places, axis.digits, strict=True):
            if digit in pinned:
                is_writer = is_writer & (coordinate // place % radix == 0)
    written = table[is_writer]
    inside = (written < np.array(extents)).all(axis=1)
    cells = written[inside]
    assert len(cells) == int(np.prod(extents)) == len(np.unique(cells, axis=0))
    assert result.guarded_axes == tuple(a for a in range(len(extents)) if (written[:, a] >= extents[a]).any())
    vector = result.vector_elements
    runs = table.reshape(-1, vector, *table.shape[1:])
    assert (runs[:, :1, ..., -1] % vector == 0).all()
    assert (runs[..., -1] - runs[:, :1, ..., -1] == np.arange(vector).reshape(1, -1, 1, 1)).all()
    assert (runs[..., :-1] == runs[:, :1, ..., :-1]).all()
    assert extents[-1] % vector == 0


SHAPES = [
    ((64, 80), 128, 8),
    ((128, 96), 128, 8),
    ((64, 192), 256, 8),
    ((16, 576), 128, 8),
    ((3, 64, 96), 96, 4),
    ((128, 128), 384, 8),
    ((64, 64), 160, 4),
    ((100,), 128, 4),
    ((7, 13), 64, 4),
    ((1,), 128, 8),
    ((64,), 128, 8),
    ((33, 1), 32, 2),
    ((2, 3, 5, 7), 32, 1),
    ((64, 64), 32, 8),
    ((4, 8), 16, 4),
    ((20, 12), 48, 2),
    ((1000,), 224, 8),
]


@pytest.mark.parametrize(("extents", "threads", "vector"), SHAPES)
def test_every_cell_is_covered_exactly_once(extents: tuple[int, ...], threads: int, vector: int) -> None:
    result = distribute(extents, threads, vector)
    check(result)
    assert result.extents == extents
    assert result.vector_elements <= vector
    assert threads - 31 <= result.num_threads <= threads


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_random_tiles_are_covered_exactly_once(seed: int) -> None:
    rng = random.Random(seed)
    extents = tuple(rng.randint(1, 40) for _ in range(rng.randint(1, 3)))
    threads = rng.choice((1, 2, 8, 32, 64, 96, 128, 160, 192, 256, 384))
    vector = rng.choice((1, 2, 4, 8))
    sector = rng.choice((1, 8, 16))
    check(distribute(extents, threads, vector, sector_elements=sector))


def test_the_documented_example() -> None:
    """64 x 80 over 128 threads: vectors of 8 along j, then j's last two and all of i to threads, the 5 to registers."""
    result = distribute((64, 80), 128, 8)
    assert (result.padded_extents, result.vector_elements, result.elements_per_thread, result.guarded_axes) == ((64, 80), 8, 40, ())
    assert not result.has_replicas
    i, j = Axis.of("d0", 64), Axis.of("d1", 80)
    expected = Layout.from_basis(
        (Axis("reg", (2, 2, 2, 5)), Axis.of("lane", 32), Axis.of("warp", 4)),
        (i, j),
        {
            "reg": [{"d1": 1}, {"d1": 2}, {"d1": 4}, {"d1": 16}],
            "lane": [{"d1": 8}, {"d0": 1}, {"d0": 2}, {"d0": 4}, {"d0": 8}],
            "warp": [{"d0": 16}, {"d0": 32}],
        },
    )
    assert result.layout == expected


def test_odd_thread_counts_use_odd_extents() -> None:
    result = distribute((64, 96), 96, 8)
    assert (result.padded_extents, result.elements_per_thread, result.has_replicas) == ((64, 96), 64, False)
    assert result.layout.in_axis("warp").digits == (3,)


def test_odd_thread_counts_pad_where_that_is_cheaper_than_idling() -> None:
    result = distribute((128, 128), 384, 8)
    assert result.elements_per_thread < 128 * 128 // 256 + 1
    assert not result.has_replicas


def test_small_tiles_narrow_the_vector_before_they_idle_threads() -> None:
    result = distribute((64, 8), 128, 8)
    assert (result.vector_elements, result.elements_per_thread, result.has_replicas) == (4, 4, False)


def test_tiles_smaller_than_the_block_are_replicated() -> None:
    result = distribute((16,), 128, 1)
    assert result.has_replicas
    assert result.elements_per_thread == 1
    assert len(result.layout.replicated_digits()) == 3


def test_padding_is_reported() -> None:
    result = distribute((100,), 128, 1)
    assert (result.padded_extents, result.guarded_axes, result.elements_per_thread) == ((128,), (0,), 1)


def test_short_runs_cost_when_sectors_matter() -> None:
    """100 = 4 * 25: with 32-byte sectors of 16-bit elements, wider rows are padded so that lanes cover whole sectors."""
    narrow = distribute((64, 100), 128, 4)
    wide = distribute((64, 100), 128, 4, sector_elements=16)
    assert narrow.padded_extents == (64, 104)
    assert wide.padded_extents == (64, 112)
    check(wide)


def test_threads_beyond_whole_warps_are_idle() -> None:
    assert distribute((64, 64), 48, 4).num_threads == 32
    assert distribute((64, 64), 24, 4).num_threads == 16
    assert distribute((64, 64), 64, 4, warp_size=64).layout.in_axis("lane").extent == 64


def test_misuse_is_refused() -> None:
    for extents, threads, vector in (((), 32, 1), ((4,), 0, 1), ((4,), 32, 3), ((0,), 32, 1)):
        with pytest.raises(LayoutError):
            distribute(extents, threads, vector)
