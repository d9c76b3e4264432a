"""Lowered layouts against their tables, at every coordinate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

import numpy as np
import pytest

from tilewright.arith.bounds import Facts
from tilewright.arith.evaluate import evaluate
from tilewright.arith.linear import Linearizer
from tilewright.arith.lower_layout import is_below, lower_layout, lower_memory_layout
from tilewright.arith.simplify import simplify
from tilewright.ir.expr import Expr, Op, var
from tilewright.layout.digits import Axis, LayoutError, tile_axes
from tilewright.layout.distribute import distribute
from tilewright.layout.embedding import MemoryLayout
from tilewright.layout.layout import Layout
from tilewright.layout.swizzle import swizzled_tile


def coordinates_of(layout: Layout) -> dict[str, Expr]:
    return {axis.name: var(axis.name) for axis in layout.ins}


def values_at_all_points(expr: Expr, layout: Layout, coordinates: Mapping[str, Expr]) -> np.ndarray:
    grids = np.meshgrid(*(np.arange(axis.extent, dtype=np.int32) for axis in layout.ins), indexing="ij")
    points = {coordinates[axis.name]: grid for axis, grid in zip(layout.ins, grids, strict=True)}
    shape = tuple(axis.extent for axis in layout.ins)
    return np.broadcast_to(evaluate(expr, points, lambda *_: np.zeros(0)), shape)


def random_layout(seed: int) -> Layout:
    """Any columns that the rules allow: XORs, replication, odd digits in any place."""
    random = Random(seed)
    radices = [2] * random.randint(1, 5) + [3] * random.randint(0, 1) + [5] * random.randint(0, 1)
    outs = random.sample(radices, len(radices))
    ins = random.sample(radices + [2] * random.randint(0, 2), len(radices) + 0)
    binary = [bit for bit, radix in enumerate(outs) if radix == 2]
    odd = {radix: bit for bit, radix in enumerate(outs) if radix > 2}
    columns = []
    for radix in ins:
        if radix == 2:
            columns.append(sum(1 << bit for bit in random.sample(binary, min(len(binary), random.choice([0, 1, 1, 1, 2])))))
        else:
            columns.append(1 << odd.pop(radix) if radix in odd and random.random() < 0.8 else 0)
    cut, cut_out = random.randint(0, len(ins)), random.randint(0, len(outs))
    in_axes = (Axis("p", tuple(ins[:cut])), Axis("q", tuple(ins[cut:])))
    return Layout(in_axes, (Axis("r", tuple(outs[:cut_out])), Axis("s", tuple(outs[cut_out:]))), tuple(columns))


def layouts() -> Iterator[Layout]:
    yield from (random_layout(seed) for seed in range(150))
    for extents in ((128, 64), (192, 80), (3, 5, 8), (96,)):
        yield Layout.row_major(tile_axes(extents))
        yield Layout.column_major(tile_axes(extents)).inverse()
    yield swizzled_tile(tile_axes((32, 64)), 16)
    yield swizzled_tile(tile_axes((16, 128)), 8).inverse()


def test_every_output_coordinate_is_that_of_the_table() -> None:
    for layout in layouts():
        coordinates = coordinates_of(layout)
        facts = Facts().with_box(list(coordinates.values()), [axis.extent for axis in layout.ins])
        images, table = lower_layout(layout, coordinates), layout.table()
        for number, axis in enumerate(layout.outs):
            for expr in (images[axis.name], simplify(images[axis.name], facts)):
                assert np.array_equal(values_at_all_points(expr, layout, coordinates), table[..., number]), f"{layout}: {expr}"


def test_addresses_are_those_of_the_table() -> None:
    padded = MemoryLayout.natural(Layout.row_major(tile_axes((16, 24))))
    padded = MemoryLayout(padded.layout, padded.embedding.padded(8, 3))
    staged = MemoryLayout.natural(swizzled_tile(tile_axes((16, 64)), 16)).with_stages(3, 128)
    strided = MemoryLayout.strided(tile_axes((4, 6)), ((100, 7), (1, 40)), base_elements=9)
    for memory in (padded, staged, strided):
        coordinates = coordinates_of(memory.layout)
        address = lower_memory_layout(memory, coordinates)
        assert np.array_equal(values_at_all_points(address, memory.layout, coordinates), memory.table()), str(address)


def test_digits_that_stay_together_are_one_term() -> None:
    i, j = var("i"), var("j")
    assert lower_layout(Layout.row_major(tile_axes((192, 80))), {"d0": i, "d1": j})["offset"] is i * 80 + j
    split = lower_layout(Layout.row_major(tile_axes((128, 64))).inverse(), {"offset": i})
    assert split == {"d0": i // 64, "d1": i % 64} or [str(e) for e in split.values()] == ["i // 64", "i % 64"]


def test_a_swizzle_leaves_the_low_digits_contiguous() -> None:
    i, j, low = var("i"), var("j"), var("low")
    address = lower_layout(swizzled_tile(tile_axes((32, 64)), 16), {"d0": i, "d1": j * 8 + low})["offset"]
    facts = Facts().with_box((i, j, low), (32, 8, 8))
    linearizer = Linearizer(is_expanding=True)
    split = linearizer.split(linearizer.form(simplify(address, facts)), low)
    assert split is not None and split[0].constant == 1 and split[0].is_constant


def test_coordinates_must_name_the_axes() -> None:
    with pytest.raises(LayoutError, match="the inputs are"):
        lower_layout(Layout.row_major(tile_axes((4, 4))), {"d0": var("i")})


@pytest.mark.parametrize("extents, threads", [((7, 229), 96), ((5, 77), 160), ((33,), 32), ((3, 40), 64), ((16, 333), 128)])
def test_a_coordinate_below_an_extent(extents: tuple[int, ...], threads: int) -> None:
    layout = distribute(extents, threads).layout
    coordinates = coordinates_of(layout)
    for axis, extent in enumerate(extents):
        condition = is_below(layout, coordinates, f"d{axis}", extent)
        assert np.array_equal(values_at_all_points(condition, layout, coordinates), layout.table()[..., axis] < extent)


def test_registers_decide_alone_where_they_can() -> None:
    layout = distribute((7, 229), 96).layout
    coordinates = coordinates_of(layout)
    condition = is_below(layout, coordinates, "d1", 229)
    assert condition.op is Op.OR
    first = values_at_all_points(condition.args[0], layout, coordinates)
    assert 0.5 < first.mean() < 1
    assert (first == first[:, :1, :1]).all()


def test_registers_that_mix_with_threads_decide_nothing() -> None:
    ins = (Axis("reg", (2, 2)), Axis("lane", (2,)), Axis("warp", ()))
    layout = Layout(ins, tile_axes((8,)), (0b100, 0b011, 0b001))
    coordinates = coordinates_of(layout)
    condition = is_below(layout, coordinates, "d0", 6)
    assert condition.op is Op.LT
    assert np.array_equal(values_at_all_points(condition, layout, coordinates), layout.table()[..., 0] < 6)
