"""Layouts from index functions, user fragments and CuTe: recovered exactly, or kept as tables, or refused with the colliding elements."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings

from tests.layout.random_layouts import SEEDS, random_axes, random_bijection, random_layout
from tilewright.layout import (
    Axis,
    CollisionError,
    Embedding,
    Layout,
    LayoutError,
    MemoryLayout,
    TableLayout,
    fragment_from_function,
    from_cute,
    from_function,
    recover_layout,
    recover_memory_layout,
    swizzled_tile,
    tile_axes,
    to_cute,
)
from tilewright.layout.interop import evaluate

property_test = settings(max_examples=50, deadline=None)

# ----------------------------------------------------------------------------------------------------------------- evaluation


def test_functions_on_arrays_and_on_plain_ints_agree() -> None:
    arrays = evaluate((6, 8), lambda i, j: (i * 8 + (j ^ i % 2), j // 4))
    scalars = evaluate((6, 8), lambda i, j: (i * 8 + (j ^ (1 if i % 2 else 0)), [0, 0, 0, 0, 1, 1, 1, 1][j]))
    assert np.array_equal(arrays, scalars)
    assert evaluate((3, 2), lambda i, j: 7).tolist() == [[[7], [7]]] * 3
    assert evaluate((4,), lambda i: min(int(i), 2)).tolist() == [[0], [1], [2], [2]]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda i: i / 2, "integers"),
        (lambda i: i - 1, "negative coordinate at \\(0,\\)"),
        (lambda i: (), "no coordinate"),
        (lambda i: (0, 0) if i > 2 else (0,), "varying"),
    ],
)
def test_functions_that_are_no_index_maps_are_refused(function: object, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        evaluate((4,), function)  # type: ignore[arg-type]


def test_errors_of_the_function_itself_pass_through() -> None:
    def broken(i: int) -> int:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        evaluate((4,), broken)


# ------------------------------------------------------------------------------------------------------------------- recovery


@property_test
@given(SEEDS)
def test_random_homomorphisms_are_recovered_exactly(seed: int) -> None:
    rng = random.Random(seed)
    axes = tuple(Axis.of(name, rng.choice((2, 3, 4, 6, 8, 12, 20))) for name in "ab")
    layout = random_bijection(rng, axes, "offset")
    found = recover_layout(layout.table()[..., 0], axes)
    assert found is not None
    assert np.array_equal(found.table(), layout.table())
    assert found.is_bijective
    if all(radix == 2 for radix in layout.out_radices):
        assert found == layout


@property_test
@given(SEEDS)
def test_random_index_functions_come_back_as_layouts(seed: int) -> None:
    """The same through the public door, from a lambda that only knows coordinates."""
    rng = random.Random(seed)
    axes = tuple(Axis.of(f"d{position}", rng.choice((2, 4, 6, 8))) for position in range(2))
    layout = random_bijection(rng, axes, "offset")
    found = from_function([axis.extent for axis in axes], lambda i, j: layout(d0=int(i), d1=int(j))["offset"])
    assert isinstance(found, MemoryLayout)
    assert np.array_equal(found.table(), layout.table()[..., 0])


@property_test
@given(SEEDS)
def test_maps_into_larger_spaces_are_recovered(seed: int) -> None:
    """Injective but not onto, odd digits included: the values are right whatever gaps there are."""
    rng = random.Random(seed)
    axes = tuple(Axis.of(name, rng.choice((2, 3, 4, 6))) for name in "ab")
    layout = random_layout(rng, axes, (Axis("x", (2, 2, 3, 2, 2, 3, 2, 2)),))
    values = layout.table()[..., 0]
    found = recover_memory_layout(values, axes)
    if found is not None:
        assert np.array_equal(found.table(), values)
    if all(radix == 2 for radix in layout.in_radices):
        twos = random_layout(rng, axes, (Axis("x", (2,) * 6),))
        exact = recover_layout(twos.table()[..., 0], axes)
        assert exact is not None
        assert exact.columns == twos.columns


@property_test
@given(SEEDS)
def test_padded_swizzles_are_recovered(seed: int) -> None:
    """Rows of 2^c elements with XORed columns, then padding after each row: strides and masks come back."""
    rng = random.Random(seed)
    log2_columns = rng.randint(2, 5)
    rows, columns = rng.choice((4, 6, 8, 12)), 1 << log2_columns
    pitch = columns + rng.choice((0, 1, 2, 3, 5, 8))
    shifts = [rng.choice((None, *range(log2_columns))) for _ in range(2)]

    def function(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        for bit, shift in enumerate(shifts):
            if shift is not None and bit < (rows & -rows).bit_length() - 1:
                j = j ^ ((i >> bit & 1) << shift)
        return i * pitch + j

    found = from_function((rows, columns), function)
    assert isinstance(found, MemoryLayout)
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    assert np.array_equal(found.table(), function(i, j))
    assert found.layout.is_injective
    assert found.embedding.strides_elements == tuple(sorted(found.embedding.strides_elements))


@property_test
@given(SEEDS)
def test_sums_of_digit_strides_are_recovered(seed: int) -> None:
    rng = random.Random(seed)
    axes = random_axes(rng, "ab", (2, 3, 4, 6, 8, 12))
    strides = [[rng.choice((0, 1, 3, 7, 8, 64, 100)) for _ in axis.digits] for axis in axes]
    memory = MemoryLayout.strided(axes, strides, rng.choice((0, 4)))
    found = recover_memory_layout(memory.table(), axes)
    assert found is not None
    assert np.array_equal(found.table(), memory.table())


def test_the_usual_user_layouts() -> None:
    padded = from_function((32, 32), lambda i, j: i * 40 + j)
    assert isinstance(padded, MemoryLayout)
    plain = Layout.row_major(tile_axes((32, 32)))
    assert padded == MemoryLayout(plain, Embedding.natural(plain.outs[0]).padded(32, 8))
    swizzled = from_function((64, 64), lambda i, j: i * 64 + ((j // 8) ^ (i % 8)) * 8 + j % 8)
    assert swizzled == MemoryLayout.natural(swizzled_tile(tile_axes((64, 64)), 16))
    blocked = from_function((16, 48), lambda i, j: (j // 16, i, j % 16))
    assert isinstance(blocked, MemoryLayout)
    assert blocked.embedding.is_natural
    assert blocked(d0=3, d1=37) == (2 * 16 + 3) * 16 + 5
    transposed = from_function((12, 20), lambda i, j: [j, i], names=("row", "column"))
    assert transposed == MemoryLayout.natural(Layout.column_major((Axis.of("row", 12), Axis.of("column", 20))))
    reversed_rows = from_function((8,), lambda i: 7 - i)
    assert isinstance(reversed_rows, MemoryLayout)
    assert reversed_rows.table().tolist() == [7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("extents", "function"),
    [
        ((4, 6), lambda i, j: i * 6 + (i + j) % 6),
        ((8, 8), lambda i, j: i * 8 + (j * 3) % 8),
        ((6, 6), lambda i, j: np.where(i > 2, 5 - i, i + 3) * 6 + j),
        ((5,), lambda i: (2 * i) % 5),
        ((3, 64), lambda i, j: (i * 64 + j) % 3 * 64 + (i * 64 + j) // 3),
    ],
)
def test_other_maps_become_tables(extents: tuple[int, ...], function: object) -> None:
    found = from_function(extents, function)  # type: ignore[arg-type]
    assert isinstance(found, TableLayout)
    values = evaluate(extents, function)  # type: ignore[arg-type]
    assert np.array_equal(found.table(), values)
    assert found.size_elements == values.max() + 1


@pytest.mark.parametrize("size", [8, 12])
def test_a_random_permutation_is_recovered_only_if_it_is_linear(size: int) -> None:
    rng = random.Random(size)
    for _ in range(30):
        order = list(range(size))
        rng.shuffle(order)
        found = from_function((size,), lambda i, order=order: order[i])
        assert [int(value) for value in found.table().reshape(-1)] == order


def test_collisions_name_the_two_elements() -> None:
    with pytest.raises(CollisionError, match=r"\(0,\) and \(1,\) both map to \(0,\)") as caught:
        from_function((64,), lambda i: i // 2)
    assert (caught.value.collision.first, caught.value.collision.second) == ((0,), (1,))
    with pytest.raises(CollisionError, match=r"\(0, 4\) and \(1, 0\) both map to \(4,\)"):
        from_function((4, 6), lambda i, j: i * 4 + j)


# ------------------------------------------------------------------------------------------------------------------ fragments


def check_fragment(extents: tuple[int, ...], function: object, num_threads: int, replicate: int = 1) -> Layout:
    """Every (thread, register) that the function names must hold that element, and no register may hold something outside the tile."""
    found = fragment_from_function(extents, function, num_threads, replicate)  # type: ignore[arg-type]
    assert isinstance(found, Layout)
    assert [axis.name for axis in found.ins] == ["reg", "thread"]
    assert found.in_axis("thread").extent == num_threads
    for point in product(*(range(extent) for extent in extents)):
        for replica in range(replicate):
            thread, register = function(*point, replica) if replicate > 1 else function(*point)  # type: ignore[operator]
            assert tuple(found(reg=register, thread=thread).values()) == point
    assert found.is_onto
    return found


def test_a_row_spread_over_a_warp() -> None:
    found = check_fragment((16, 64), lambda i, j: (j % 32, i * 2 + j // 32), 32)
    assert found.is_bijective


def test_replicated_and_sparse_fragments() -> None:
    replicated = check_fragment((8, 8), lambda i, j, replica: (j + replica * 8, i), 32, replicate=2)
    assert len(replicated.replicated_digits()) == 2
    sparse = check_fragment((16,), lambda i: (2 * i, 0), 64)
    assert sparse.table()[0, 1].tolist() == [0]
    assert len(sparse.replicated_digits()) == 2
    useless = check_fragment((4, 4), lambda i, j, replica: (j, i), 4, replicate=2)
    assert useless.is_bijective


def test_fragments_with_odd_extents_and_thread_counts() -> None:
    check_fragment((64, 80), lambda i, j: (i * 2 + j // 8 % 2, j // 16 * 8 + j % 8), 128)
    check_fragment((96, 4), lambda i, j: (i, j), 96)
    check_fragment((3, 32), lambda i, j: (i * 32 + j, 0), 96)
    check_fragment((192, 64), lambda i, j: (j * 2 + i % 2, i // 2), 128)


def test_mma_fragment_from_a_function() -> None:
    found = check_fragment((16, 8), lambda i, j: (i % 8 * 4 + j // 2, j % 2 + i // 8 * 2), 32)
    assert found.basis() == {
        "reg": [{"d1": 1}, {"d0": 8}],
        "thread": [{"d1": 2}, {"d1": 4}, {"d0": 1}, {"d0": 2}, {"d0": 4}],
    }


def test_fragments_that_are_no_homomorphism_become_tables() -> None:
    found = fragment_from_function((6, 8), lambda i, j: ((i + j) % 8, i), 8)
    assert isinstance(found, TableLayout)
    assert found(d0=3, d1=7) == {"thread": 2, "reg": 3}
    inverse = found.inverse_table()
    assert inverse[2, 3].tolist() == [3, 7]
    odd_first = fragment_from_function((3, 32), lambda i, j: (j * 3 + i, 0), 96)  # threads numbered 3 * 32 against 32 * 3
    assert isinstance(odd_first, TableLayout)


def test_fragments_are_checked() -> None:
    with pytest.raises(CollisionError, match=r"\(0, 0\) and \(0, 4\) both map to \(0, 0\)"):
        fragment_from_function((4, 8), lambda i, j: (j % 4, i), 32)
    with pytest.raises(LayoutError, match="thread 8 of 8"):
        fragment_from_function((9,), lambda i: (i, 0), 8)
    with pytest.raises(LayoutError, match="returns \\(thread, register\\)"):
        fragment_from_function((9,), lambda i: i, 8)


# ------------------------------------------------------------------------------------------------------------------------ CuTe


def cute_value(shape: object, stride: object, coordinate: int) -> int:
    """CuTe's own rule: a mode's integer coordinate is split leftmost fastest."""
    if isinstance(shape, int):
        assert isinstance(stride, int)
        return coordinate * stride
    total = 0
    for part, step in zip(shape, stride, strict=True):  # type: ignore[call-overload]
        size = int(np.prod(leaves(part)))
        total += cute_value(part, step, coordinate % size)
        coordinate //= size
    return total


def leaves(tree: object) -> list[int]:
    return [tree] if isinstance(tree, int) else [leaf for part in tree for leaf in leaves(part)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        (8, 2),
        ((4, 8), (8, 1)),
        (((2, 4), 8), ((1, 16), 2)),
        (((2, 3), (4, 5), 7), ((60, 1), (3, 12), 200)),
        ((4, (2, (3, 2))), (0, (5, (1, 40)))),
        ((1, 96), (0, 1)),
        ((32, 40), (1, 40)),
    ],
)
def test_cute_layouts(shape: object, stride: object) -> None:
    memory = from_cute(shape, stride)  # type: ignore[arg-type]
    modes = [(shape, stride)] if isinstance(shape, int) else list(zip(shape, stride, strict=True))  # type: ignore[call-overload]
    extents = [int(np.prod(leaves(mode))) for mode, _ in modes]
    expected = [sum(cute_value(mode, step, x) for (mode, step), x in zip(modes, point, strict=True)) for point in product(*(range(e) for e in extents))]
    assert memory.table().reshape(-1).tolist() == expected
    back = to_cute(memory)
    assert back is not None
    again = from_cute(*back)
    assert np.array_equal(again.table(), memory.table())


def test_cute_text_is_merged() -> None:
    assert to_cute(from_cute((32, 96), (100, 1))) == (((32,), (96,)), ((100,), (1,)))
    assert to_cute(from_cute(((2, 4), 8), ((1, 16), 2))) == (((2, 4), (8,)), ((1, 16), (2,)))
    assert to_cute(MemoryLayout.natural(swizzled_tile(tile_axes((8, 64)), 16))) is None


def test_incongruent_cute_layouts_are_refused() -> None:
    for shape, stride in (((4, 8), (1,)), ((4, (2, 2)), (1, 4)), (8, (1,))):
        with pytest.raises(LayoutError, match="not congruent"):
            from_cute(shape, stride)
