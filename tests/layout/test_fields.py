"""Shift-and-mask pieces evaluate to the table they came from."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings

from tests.layout.ptx_fragments import wgmma_accumulator
from tests.layout.random_layouts import SEEDS, random_axes, random_layout
from tilewright.layout import Axis, Embedding, Field, Layout, Term, address_fields, swizzled_tile


def evaluated(layout: Layout, fields: tuple[Field, ...], base: int = 0) -> np.ndarray:
    grids = np.meshgrid(*(np.arange(axis.extent) for axis in layout.ins), indexing="ij")
    coordinates = {axis.name: grid for axis, grid in zip(layout.ins, grids, strict=True)}
    total = np.full([axis.extent for axis in layout.ins], base)
    for field in fields:
        terms = []
        for term in field.terms:
            value = coordinates[term.axis] // term.divisor
            if term.needs_modulus:
                value = value % term.modulus
            assert (value < term.modulus).all()
            terms.append(value * term.multiplier)
        combined = np.bitwise_xor.reduce(terms)
        if field.is_disjoint:
            assert np.array_equal(combined, sum(terms))
        total = total + field.stride * combined
    return total


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_fields_rebuild_any_layout(seed: int) -> None:
    rng = random.Random(seed)
    layout = random_layout(rng, random_axes(rng, "ab"), random_axes(rng, "xy", (1, 2, 4, 6, 8, 24)))
    for position, axis in enumerate(layout.outs):
        assert np.array_equal(evaluated(layout, address_fields(layout, axis.name)), layout.table()[..., position])
        embedding = Embedding(axis.digits, tuple(rng.choice((1, 2, 4, 8, 24, 40)) for _ in axis.digits), 5)
        expected = embedding.addresses(layout.table()[..., position])
        assert np.array_equal(evaluated(layout, address_fields(layout, axis.name, embedding), base=5), expected)


@pytest.mark.parametrize("columns", [64, 80, 96, 192])
def test_plain_layouts_are_one_multiply_per_axis(columns: int) -> None:
    layout = Layout.row_major((Axis.of("i", 64), Axis.of("j", columns)))
    fields = address_fields(layout, "offset")
    assert np.array_equal(evaluated(layout, fields), layout.table()[..., 0])
    assert all(field.is_disjoint for field in fields)
    power_of_two = columns & (columns - 1) == 0
    assert len(fields) == (1 if power_of_two else 3)


def test_a_swizzle_is_one_xor() -> None:
    layout = swizzled_tile((Axis.of("i", 64), Axis.of("j", 64)), 16)
    (field,) = address_fields(layout, "offset")
    assert field.stride == 1
    assert not field.is_disjoint
    assert field.terms == (Term("i", 1, 8, 8, True), Term("i", 1, 64, 64, False), Term("j", 1, 64, 1, False))


def test_fragment_coordinates() -> None:
    fragment = wgmma_accumulator(96)
    (row,) = address_fields(fragment, "m")
    assert row.terms == (Term("reg", 2, 2, 8, True), Term("lane", 4, 8, 1, False), Term("warp", 1, 4, 16, False))
    assert row.is_disjoint
    assert np.array_equal(evaluated(fragment, address_fields(fragment, "n")), fragment.table()[..., 1])
