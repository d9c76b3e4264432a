"""Strips and row tiles cover a product exactly, and fit the registers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.codegen.llvm.blocking import is_fused, panel_columns, split_columns, split_rows
from tilewright.dtypes import as_dtype
from tilewright.errors import CompilerBug
from tilewright.target.cpu import AVX2, AVX512, NEON, PRESETS

DTYPES = [as_dtype(name) for name in ("float32", "float64", "int32", "int64")]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(PRESETS.values())), st.sampled_from(DTYPES), st.integers(1, 300), st.integers(1, 600), st.booleans())
def test_cover_exactly_and_fit_the_registers(target, dtype, rows, columns, has_panels):
    panel = panel_columns(target, dtype) if has_panels else 0
    lanes = target.lanes(dtype.itemsize)
    next_column = 0
    for strip in split_columns(rows, columns, dtype, target, panel):
        assert strip.first_column == next_column
        assert not panel or strip.first_column % panel == 0
        next_column += strip.count * strip.columns
        vectors = -(-strip.columns // lanes)
        groups = split_rows(rows, vectors, dtype, target)
        assert sum(group.count * group.rows for group in groups) == rows
        assert [group.first_row for group in groups] == [0, groups[0].count * groups[0].rows][: len(groups)]
        sizes = [group.rows for group in groups]
        assert max(sizes) - min(sizes) <= 1
        for size in sizes:
            assert size * vectors + min(size, vectors) + 1 <= target.register_count
    assert next_column == columns


@pytest.mark.parametrize(("rows", "sizes"), [(128, {6: 18, 5: 4}), (64, {6: 9, 5: 2}), (6, {6: 1}), (7, {4: 1, 3: 1}), (1, {1: 1})])
def test_row_tiles_of_avx2_are_balanced(rows, sizes):
    assert {group.rows: group.count for group in split_rows(rows, 2, as_dtype("float32"), AVX2)} == sizes


def test_full_tiles_use_the_register_file():
    float32 = as_dtype("float32")
    assert [max(g.rows for g in split_rows(1000, t.micro_tile.column_vectors, float32, t)) for t in (AVX2, AVX512, NEON)] == [6, 6, 8]


def test_few_rows_get_wide_strips():
    float32 = as_dtype("float32")
    assert [split_columns(rows, 256, float32, AVX2, 16)[0].columns for rows in (1, 2, 3, 4)] == [64, 32, 16, 16]


def test_sums_without_fma_leave_room_for_products():
    int32 = as_dtype("int32")
    assert not is_fused(AVX2, int32)
    assert max(group.rows for group in split_rows(100, 2, int32, AVX2)) == 4


def test_panels_that_straddle_strips_are_refused():
    with pytest.raises(CompilerBug, match="panels of 24 columns"):
        split_columns(8, 48, as_dtype("float32"), AVX2, 24)
