"""The layout algebra against exhaustive enumeration with numpy."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings

from tests.layout.random_layouts import SEEDS, naive_image, points, random_axes, random_bijection, random_layout
from tilewright.layout import Axis, Layout, LayoutError
from tilewright.layout.gf2 import set_bits

property_test = settings(max_examples=40, deadline=None)


def drawn(seed: int, ins: str = "ab", outs: str = "xy") -> tuple[random.Random, Layout]:
    rng = random.Random(seed)
    return rng, random_layout(rng, random_axes(rng, ins), random_axes(rng, outs))


def rows(layout: Layout) -> np.ndarray:
    """The table as (points, outs)."""
    return layout.table().reshape(-1, len(layout.outs))


def distinct(layout: Layout) -> int:
    return len(np.unique(rows(layout), axis=0))


# ------------------------------------------------------------------------------------------------------------------- evaluation


@property_test
@given(SEEDS)
def test_table_and_call_follow_the_definition(seed: int) -> None:
    _, layout = drawn(seed)
    expected = [naive_image(layout, point) for point in points(layout.ins)]
    assert layout.table().shape == (*(axis.extent for axis in layout.ins), 2)
    assert [tuple(row) for row in rows(layout)] == expected
    for point, image in list(zip(points(layout.ins), expected, strict=True))[::7]:
        assert tuple(layout(a=point[0], b=point[1]).values()) == image


@property_test
@given(SEEDS)
def test_layouts_are_homomorphisms_digit_by_digit(seed: int) -> None:
    """f(x) is the digit-wise sum of the images of the digits of x: adding one radix-2 digit to any point XORs its column in."""
    rng, layout = drawn(seed)
    masks = {}
    for point, image in zip(points(layout.ins), rows(layout), strict=True):
        masks[point] = tuple(image)
    assert masks[0, 0] == (0, 0)
    axis = rng.choice(layout.ins)
    for digit, (place, radix) in enumerate(zip(axis.places, axis.digits, strict=True)):
        unit = layout(**{other.name: place if other is axis else 0 for other in layout.ins})
        assert layout.basis()[axis.name][digit] == {name: value for name, value in unit.items() if value}
        assert radix == axis.digits[digit]


def test_call_checks_its_coordinates() -> None:
    layout = Layout.identity((Axis.of("a", 4),))
    for coordinates in ({}, {"b": 1}, {"a": 4}, {"a": -1}, {"a": 0, "b": 0}):
        with pytest.raises(LayoutError):
            layout(**coordinates)


def test_table_of_a_layout_without_axes() -> None:
    assert Layout((), (), ()).table().shape == (0,)
    assert Layout.zero((Axis.of("a", 3),), (Axis.of("x", 4),)).table().tolist() == [[0], [0], [0]]


# ----------------------------------------------------------------------------------------------------------------- construction


def test_orders_are_the_usual_linear_numberings() -> None:
    axes = (Axis.of("i", 6), Axis.of("j", 80), Axis.of("s", 3))
    numbers = np.arange(6 * 80 * 3)
    assert np.array_equal(Layout.row_major(axes).table()[..., 0], numbers.reshape(6, 80, 3))
    assert np.array_equal(Layout.column_major(axes).table()[..., 0], numbers.reshape(6, 80, 3, order="F"))
    expected = numbers.reshape(80, 6, 3).transpose(1, 0, 2)  # s fastest, then i, then j
    assert np.array_equal(Layout.ordered(axes, ["s", "i", "j"]).table()[..., 0], expected)
    with pytest.raises(LayoutError, match="does not name"):
        Layout.ordered(axes, ["i", "j"])


@property_test
@given(SEEDS)
def test_basis_round_trip(seed: int) -> None:
    _, layout = drawn(seed)
    twin = Layout.from_basis(layout.ins, layout.outs, layout.basis())
    assert twin == layout
    assert hash(twin) == hash(layout)


def test_from_basis_refuses_what_is_no_step() -> None:
    ins, outs = (Axis.of("a", 2),), (Axis.of("x", 6),)
    for step in (4, 6, 64):  # the odd digit at 2, two places out of range
        with pytest.raises(LayoutError, match="step"):
            Layout.from_basis(ins, outs, {"a": [{"x": step}]})
    with pytest.raises(LayoutError, match="digits"):
        Layout.from_basis(ins, outs, {"a": []})
    with pytest.raises(LayoutError, match="names"):
        Layout.from_basis(ins, outs, {"b": [{}]})
    with pytest.raises(LayoutError, match="no output axis"):
        Layout.from_basis(ins, outs, {"a": [{"y": 1}]})


def test_columns_must_respect_radices() -> None:
    two, three, nine = Axis("a", (2,)), Axis("a", (3,)), Axis("a", (3, 3))
    out = Axis("x", (2, 3))
    for axis, columns in [(two, (2,)), (two, (4,)), (three, (1,)), (three, (3,)), (three, (4,)), (nine, (2, 2)), (two, ()), (two, (1, 1))]:
        with pytest.raises(LayoutError):
            Layout((axis,), (out,), columns)
    with pytest.raises(LayoutError, match="share a name"):
        Layout((two, two), (out,), (1, 1))


def test_text_names_every_step() -> None:
    layout = Layout.from_basis((Axis.of("lane", 4),), (Axis.of("m", 4), Axis.of("n", 3)), {"lane": [{"m": 3}, {}]})
    assert str(layout) == "lane=4 [m+3, -] -> m=4, n=3"


# ---------------------------------------------------------------------------------------------------------------------- algebra


@property_test
@given(SEEDS)
def test_compose_is_composition_of_functions(seed: int) -> None:
    rng, inner = drawn(seed, "ab", "xy")
    outer = random_layout(rng, tuple(reversed(inner.outs)), random_axes(rng, "u"))
    composed = outer.compose(inner)
    x, y = rows(inner).T
    assert np.array_equal(rows(composed), outer.table()[y, x])


def test_compose_refuses_axes_that_differ() -> None:
    inner = Layout.identity((Axis.of("a", 6),))
    for axes in [(Axis.of("b", 6),), (Axis("a", (3, 2)),), (Axis.of("a", 12),), (Axis.of("a", 6), Axis.of("b", 1))]:
        with pytest.raises(LayoutError):
            Layout.identity(axes).compose(inner)


@property_test
@given(SEEDS)
def test_inverse_is_a_right_inverse_exactly_when_onto(seed: int) -> None:
    _, layout = drawn(seed, "abc", "xy")
    is_onto = distinct(layout) == np.prod([axis.extent for axis in layout.outs])
    assert layout.is_onto == is_onto
    if is_onto:
        assert layout.compose(layout.inverse()) == Layout.identity(layout.outs)
        back = rows(layout.inverse())
        assert np.array_equal(layout.table()[tuple(back.T)], np.array(points(layout.outs)))
    else:
        with pytest.raises(LayoutError, match="not onto"):
            layout.inverse()


@property_test
@given(SEEDS)
def test_left_inverse_undoes_exactly_when_injective(seed: int) -> None:
    rng = random.Random(seed)
    layout = random_layout(rng, random_axes(rng, "ab", (1, 2, 3, 4)), random_axes(rng, "xy", (4, 6, 8, 12, 24)))
    is_injective = distinct(layout) == len(rows(layout))
    assert layout.is_injective == is_injective
    if is_injective:
        back = layout.left_inverse()
        assert np.array_equal(back.table()[tuple(rows(layout).T)], np.array(points(layout.ins)))
        assert back.compose(layout) == Layout.identity(layout.ins)
    else:
        with pytest.raises(LayoutError, match="not injective"):
            layout.left_inverse()


@property_test
@given(SEEDS)
def test_inverse_of_a_bijection_is_two_sided(seed: int) -> None:
    rng = random.Random(seed)
    layout = random_bijection(rng, random_axes(rng, "ab", (2, 3, 4, 6, 8, 12)), "offset")
    assert layout.is_bijective
    assert layout.inverse() == layout.left_inverse()
    assert layout.inverse().inverse() == layout
    assert sorted(rows(layout)[:, 0]) == list(range(layout.outs[0].extent))


@property_test
@given(SEEDS)
def test_replication_is_the_set_of_moves_that_change_nothing(seed: int) -> None:
    _, layout = drawn(seed, "abc", "xy")
    radices = layout.in_radices
    copies = np.prod([radices[relation.bit_length() - 1] for relation in layout.replication()] or [1])
    assert len(rows(layout)) == distinct(layout) * copies
    places = [(axis.name, place) for axis in layout.ins for place in axis.places]
    for relation in layout.replication():
        move = {axis.name: 0 for axis in layout.ins}
        for digit in set_bits(relation):
            move[places[digit][0]] += places[digit][1]
        assert set(layout(**move).values()) == {0}


@property_test
@given(SEEDS)
def test_elected_writers_own_every_image_once(seed: int) -> None:
    _, layout = drawn(seed, "abc", "xy")
    pinned = set(layout.replicated_digits())
    places = [(position, place, radix) for position, axis in enumerate(layout.ins) for place, radix in zip(axis.places, axis.digits, strict=True)]
    grid = np.array(points(layout.ins))
    is_writer = np.ones(len(grid), dtype=bool)
    for digit, (position, place, radix) in enumerate(places):
        if digit in pinned:
            is_writer &= grid[:, position] // place % radix == 0
    written = rows(layout)[is_writer]
    assert len(np.unique(written, axis=0)) == len(written) == distinct(layout)


@property_test
@given(SEEDS)
def test_product_puts_the_atom_in_the_low_coordinates(seed: int) -> None:
    rng, atom = drawn(seed, "ab", "xy")
    rest = random_layout(rng, random_axes(rng, "bc", (1, 2, 3, 4)), random_axes(rng, "yz", (1, 2, 3, 4)))
    product = rest * atom
    assert [axis.name for axis in product.ins] == ["b", "c", "a"]
    assert [axis.name for axis in product.outs] == ["y", "z", "x"]
    b_low, y_low = atom.in_axis("b").extent, atom.out_axis("y").extent
    for b, c, a in points(product.ins)[::5]:
        low = atom(a=a, b=b % b_low)
        high = rest(b=b // b_low, c=c)
        assert product(a=a, b=b, c=c) == {"x": low["x"], "y": low["y"] + y_low * high["y"], "z": high["z"]}


@property_test
@given(SEEDS)
def test_division_undoes_the_product(seed: int) -> None:
    rng, atom = drawn(seed, "ab", "xy")
    rest = random_layout(rng, (*random_axes(rng, "abc", (1, 2, 3, 4)),), random_axes(rng, "yxz", (1, 2, 3, 4)))
    assert (rest * atom).divide(atom) == rest
    assert atom.divide(atom) is not None
    assert atom.divide(Layout((), (), ())) == atom


def divides_by_enumeration(layout: Layout, atom: Layout) -> bool:
    """Whether low coordinates move as the atom says and high coordinates depend on high coordinates only."""
    lows_in = [atom.in_axis(axis.name).extent if atom.has_input(axis.name) else 1 for axis in layout.ins]
    lows_out = [atom.out_axis(axis.name).extent if atom.has_output(axis.name) else 1 for axis in layout.outs]
    high_images: dict[tuple[int, ...], tuple[int, ...]] = {}
    for point in points(layout.ins):
        image = naive_image(layout, point)
        low = {axis.name: x % n for axis, x, n in zip(layout.ins, point, lows_in, strict=True) if atom.has_input(axis.name)}
        expected = atom(**low)
        if any(y % n != expected.get(axis.name, 0) for axis, y, n in zip(layout.outs, image, lows_out, strict=True)):
            return False
        high_point = tuple(x // n for x, n in zip(point, lows_in, strict=True))
        high = tuple(y // n for y, n in zip(image, lows_out, strict=True))
        if high_images.setdefault(high_point, high) != high:
            return False
    return True


@property_test
@given(SEEDS)
def test_division_succeeds_exactly_when_it_should(seed: int) -> None:
    rng = random.Random(seed)
    atom = random_layout(rng, random_axes(rng, "ab", (2, 3, 4)), random_axes(rng, "xy", (2, 3, 4)))
    rest = random_layout(rng, random_axes(rng, "ab", (1, 2, 4)), random_axes(rng, "xy", (2, 4)))
    product = rest * atom
    twos_in = [digit for digit, radix in enumerate(product.in_radices) if radix == 2]
    twos_out = [bit for bit, radix in enumerate(product.out_radices) if radix == 2]
    if twos_in:
        columns = list(product.columns)
        columns[rng.choice(twos_in)] ^= 1 << rng.choice(twos_out)
        product = Layout(product.ins, product.outs, tuple(columns))
    quotient = product.divide(atom)
    assert (quotient is not None) == divides_by_enumeration(product, atom)
    if quotient is not None:
        assert quotient * atom == product


def test_division_needs_the_atom_axes_as_low_digits() -> None:
    layout = Layout.identity((Axis.of("n", 12),))
    assert layout.divide(Layout.identity((Axis.of("n", 3),))) is None
    assert layout.divide(Layout.identity((Axis.of("m", 2),))) is None
    rest = layout.divide(Layout.identity((Axis.of("n", 4),)))
    assert rest == Layout.identity((Axis.of("n", 3),))


# ----------------------------------------------------------------------------------------------------------------------- axes


@property_test
@given(SEEDS)
def test_restrict_keeps_a_low_box(seed: int) -> None:
    rng, layout = drawn(seed, "abc", "xy")
    axis = rng.choice(layout.ins)
    extent = int(np.prod(axis.digits[: rng.randint(0, len(axis.digits))] or (1,)))
    box = tuple(slice(0, extent) if other is axis else slice(None) for other in layout.ins)
    assert np.array_equal(layout.restrict(**{axis.name: extent}).table(), layout.table()[box])
    pinned = tuple(0 if other is axis else slice(None) for other in layout.ins)
    assert np.array_equal(layout.drop_input(axis.name).table(), layout.table()[pinned])


def test_restrict_refuses_what_is_no_low_part() -> None:
    layout = Layout.identity((Axis.of("a", 12),))
    for name, extent in (("a", 3), ("a", 24), ("b", 1)):
        with pytest.raises(LayoutError):
            layout.restrict(**{name: extent})


@property_test
@given(SEEDS)
def test_drop_output_forgets_one_coordinate(seed: int) -> None:
    rng, layout = drawn(seed, "ab", "xyz")
    position = rng.randrange(3)
    dropped = layout.drop_output("xyz"[position])
    assert np.array_equal(dropped.table(), np.delete(layout.table(), position, axis=-1))


@property_test
@given(SEEDS)
def test_reorder_and_rename_only_move_names(seed: int) -> None:
    rng, layout = drawn(seed, "abc", "xy")
    order = rng.sample(range(3), 3)
    moved = layout.reorder(ins=["abc"[position] for position in order], outs=["y", "x"])
    assert np.array_equal(moved.table(), layout.table().transpose(*order, 3)[..., ::-1])
    assert moved.reorder(ins=["a", "b", "c"], outs=["x", "y"]) == layout
    renamed = layout.rename(ins={"a": "b", "b": "a"}, outs={"x": "z"})
    assert [axis.name for axis in (*renamed.ins, *renamed.outs)] == ["b", "a", "c", "z", "y"]
    assert renamed.columns == layout.columns
    with pytest.raises(LayoutError):
        layout.rename(ins={"q": "a"})
    with pytest.raises(LayoutError):
        layout.reorder(ins=["a", "b"])


@property_test
@given(SEEDS)
def test_reorder_digits_renumbers_one_axis(seed: int) -> None:
    rng, layout = drawn(seed, "ab", "xy")
    axis = layout.in_axis("b")
    order = rng.sample(range(len(axis.digits)), len(axis.digits))
    moved = layout.reorder_digits("b", order)
    for new in range(axis.extent):
        rest, old = new, 0
        for digit in order:
            rest, value = divmod(rest, axis.digits[digit])
            old += value * axis.places[digit]
        assert np.array_equal(moved.table()[:, new], layout.table()[:, old])
    with pytest.raises(LayoutError, match="order"):
        layout.reorder_digits("b", [*order, 0])


def test_reshape_splits_and_merges_axes() -> None:
    threads = Layout.identity((Axis.of("thread", 128),))
    split = threads.reshape_ins((Axis.of("lane", 32), Axis.of("warp", 4)))
    assert split.table()[5, 3].tolist() == [5 + 32 * 3]
    assert split.reshape_ins((Axis.of("thread", 128),)) == threads
    tiles = threads.reshape_outs((Axis.of("j", 16), Axis.of("i", 8)))
    assert tiles(thread=35) == {"j": 3, "i": 2}
    with pytest.raises(LayoutError, match="sequence of digits"):
        threads.reshape_ins((Axis.of("thread", 64),))


@property_test
@given(SEEDS)
def test_drop_redundant_keeps_one_register_per_value(seed: int) -> None:
    _, layout = drawn(seed, "ab", "xy")
    kept = layout.drop_redundant("a")
    before, after = layout.table(), kept.table()
    for b in range(layout.in_axis("b").extent):
        values = [tuple(row) for row in after[:, b]]
        assert len(set(values)) == len(values)
        assert set(values) == {tuple(row) for row in before[:, b]}


# -------------------------------------------------------------------------------------------------------------------- equality


@property_test
@given(SEEDS)
def test_equality_is_equality_of_maps(seed: int) -> None:
    rng, layout = drawn(seed)
    other = random_layout(rng, layout.ins, layout.outs)
    assert (layout == other) == np.array_equal(layout.table(), other.table()) == layout.is_same_map(other)


def test_the_same_map_in_two_factorings() -> None:
    first = Layout.identity((Axis("n", (2, 3)),))
    second = Layout.identity((Axis("n", (3, 2)),))
    assert first != second
    assert first.is_same_map(second)
    swapped = Layout((Axis("n", (2, 3)),), (Axis("n", (3, 2)),), (2, 1))
    assert not first.is_same_map(swapped)
    assert not first.is_same_map(Layout.identity((Axis.of("m", 6),)))


def test_odd_extents_are_first_class() -> None:
    for extent in (192, 96, 80, 576, 3):
        axes = (Axis.of("stage", 3), Axis.of("i", 8), Axis.of("j", extent))
        layout = Layout.row_major(axes)
        assert layout.is_bijective
        assert np.array_equal(layout.table()[..., 0], np.arange(24 * extent).reshape(3, 8, extent))
        assert layout.compose(layout.inverse()) == Layout.identity(layout.outs)
