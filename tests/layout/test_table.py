"""Table layouts and the injectivity check, against enumeration in Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from tests.layout.random_layouts import SEEDS
from tilewright.layout import Collision, LayoutError, TableLayout, first_collision


def rotation() -> TableLayout:
    i, j = np.meshgrid(np.arange(4), np.arange(6), indexing="ij")
    return TableLayout(("i", "j"), ("row", "column"), np.stack([i, (i + j) % 6], axis=-1))


def test_calls_and_sizes() -> None:
    table = rotation()
    assert table(i=3, j=5) == {"row": 3, "column": 2}
    assert (table.extents, table.out_extents, table.size_elements) == ((4, 6), (4, 6), 24)
    for coordinates in ({"i": 0}, {"i": 0, "j": 6}, {"i": -1, "j": 0}, {"i": 0, "j": 0, "k": 0}):
        with pytest.raises(LayoutError):
            table(**coordinates)


def test_inverse_table_finds_every_point_and_marks_holes() -> None:
    table = rotation()
    inverse = table.inverse_table()
    for i in range(4):
        for j in range(6):
            assert inverse[tuple(table(i=i, j=j).values())].tolist() == [i, j]
    holes = TableLayout(("i",), ("o",), np.array([[3], [1], [3]]))
    assert holes.inverse_table().tolist() == [[-1], [1], [-1], [0]]


def test_equality_and_hash_see_every_point() -> None:
    first, second = rotation(), rotation()
    assert first == second
    assert hash(first) == hash(second)
    values = first.values.copy()
    values[0, 0, 0] = 3
    assert first != TableLayout(first.in_names, first.out_names, values)
    assert first != TableLayout(("j", "i"), first.out_names, first.values)
    with pytest.raises(ValueError, match="read-only"):
        first.values[0, 0, 0] = 1
    with pytest.raises(LayoutError, match="does not fit"):
        TableLayout(("i",), ("o",), np.zeros((2, 2, 1), dtype=np.int64))


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_first_collision_is_the_first_in_row_major_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    extents = tuple(int(extent) for extent in rng.integers(1, 5, size=2))
    values = rng.integers(0, 5, size=(*extents, 2))
    seen: dict[tuple[int, ...], tuple[int, ...]] = {}
    expected = None
    for point in np.ndindex(*extents):
        image = tuple(int(value) for value in values[point])
        if image in seen and expected is None:
            expected = Collision(seen[image], point, image)
        seen.setdefault(image, point)
    assert first_collision(values) == expected


def test_replicas_of_one_element_may_share_a_place() -> None:
    values = np.array([[[0], [0]], [[1], [1]]])  # (element, replica)
    assert first_collision(values) == Collision((0, 0), (0, 1), (0,))
    assert first_collision(values, relevant=[0]) is None
    values[1, 1, 0] = 0
    assert first_collision(values, relevant=[0]) == Collision((0, 0), (1, 1), (0,))
