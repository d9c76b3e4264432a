"""Layouts as programs write them: where elements lie, what the methods make of a layout, the layouts by name, and mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tilewright.language as T
import tilewright.layout as layouts
from tests.execution import refused
from tilewright.dtypes import DType, as_dtype
from tilewright.errors import Kind


@dataclass(frozen=True)
class Tile:
    shape: tuple[int, ...]
    dtype: DType


def tile(*shape: int, dtype: str = "float16") -> Tile:
    return Tile(shape, as_dtype(dtype))


def padded() -> Any:
    return T.Layout((4, 6), lambda i, j: i * 8 + j)


def test_where_elements_lie() -> None:
    layout = T.Layout((4, 6), lambda i, j: (j, i))
    assert layout.get_input_shape() == (4, 6) and layout.get_output_shape() == (6, 4)
    assert layout.map_forward_index(3, 5) == layout.map_forward_index([3, 5]) == (5, 3)
    assert layout.index.shape == (4, 6, 2)
    assert padded().get_output_shape() == (30,) and padded().map_forward_index(3, 5) == (29,)


def test_an_inverse_leads_back() -> None:
    layout = T.Layout((8, 16), lambda i, j: (i, j ^ i))
    back = layout.inverse()
    for i in range(8):
        for j in range(16):
            assert back.map_forward_index(layout.map_forward_index(i, j)) == (i, j)
    with refused(Kind.LAYOUT_SHAPE, "has no inverse"):
        padded().inverse()


def test_equal_layouts_need_not_be_written_alike() -> None:
    row_major = T.Layout((4, 8), lambda i, j: i * 8 + j)
    assert row_major.is_equal(T.Layout((4, 8), lambda i, j: (i, j))) and row_major.is_equal(layouts.make_linear_layout(tile(4, 8)))
    assert not row_major.is_equal(T.Layout((4, 8), lambda i, j: j * 4 + i)) and not row_major.is_equal(padded())


def test_reshaped_repeated_and_expanded() -> None:
    layout = padded()
    flat = layout.reshape((24,))
    assert [flat.map_forward_index(n)[0] for n in range(24)] == [i * 8 + j for i in range(4) for j in range(6)]
    wide = layout.repeat(1, 3)
    assert wide.shape == (4, 18) and wide.map_forward_index(2, 6 * 2 + 5) == (2 * 8 + 5 + 2 * 30,)
    assert wide.is_equal(layout.repeat(-1, 3))
    deep = layout.expand((5, 2))
    assert deep.shape == (5, 2, 4, 6) and deep.map_forward_index(4, 1, 2, 3) == (4, 1, 19) and deep.get_output_shape() == (5, 2, 30)
    with refused(Kind.LAYOUT_SHAPE, "was reshaped to (5, 5)", "24 elements"):
        layout.reshape((5, 5))
    with refused(Kind.LAYOUT_SHAPE, "the axis 2"):
        layout.repeat(2, 2)


def test_what_is_asked_of_an_element_that_is_not_there() -> None:
    for indices, part in (((4, 0), "(4, 0)"), ((0,), "1 number,"), ((0, -1), "(0, -1)")):
        with refused(Kind.LAYOUT_SHAPE, part):
            padded().map_forward_index(*indices)


def rows() -> Any:
    """Four threads to a row, each with every fourth element of it."""
    return T.Fragment((8, 16), forward_fn=lambda i, j: (i * 4 + j % 4, j // 4))


def test_which_thread_holds_what() -> None:
    fragment = rows()
    assert fragment.get_input_shape() == (8, 16) and fragment.get_output_shape() == (4,) and fragment.get_thread_size() == 32
    assert fragment.map_forward_thread(3, 6) == 14 and fragment.map_forward_index([3, 6]) == (1,)
    assert fragment.thread.shape == fragment.index.shape == (8, 16, 1) and len(np.unique(fragment.thread)) == 32
    by_parts = T.Fragment((8, 16), forward_thread_fn=lambda i, j: i * 4 + j % 4, forward_index_fn=lambda i, j: j // 4)
    assert fragment.is_equal(by_parts) and not fragment.is_equal(rows().repeat((1, 1), repeat_on_thread=True).replicate(2))


def test_registers_are_counted_where_only_threads_are_given() -> None:
    assert T.Fragment((8, 16), forward_thread_fn=lambda i, j: i * 4 + j % 4).is_equal(rows())
    pairs = T.Fragment((8, 128), forward_thread_fn=lambda i, j: i // 2 * 32 + j % 32)
    i, j = np.indices((8, 128))
    np.testing.assert_array_equal(pairs.index[..., 0], i % 2 * 4 + j // 32)
    twice = T.Fragment((4, 2), forward_thread_fn=lambda i, j, copy: i % 2 + 2 * copy, replicate=2)
    np.testing.assert_array_equal(twice.index, np.array([[[0, 0], [1, 1]]] * 2 + [[[2, 2], [3, 3]]] * 2))
    one = T.Fragment((3,), forward_thread_fn=lambda i, copy: i * 0, replicate=2)  # copies in one thread are one
    np.testing.assert_array_equal(one.index[:, 1], [0, 1, 2])
    with refused(Kind.LAYOUT_SHAPE, "a thread function returns one coordinate"):
        T.Fragment((4,), forward_thread_fn=lambda i: (i, 0))


@pytest.mark.parametrize("lower_dim_first", [True, False])
@pytest.mark.parametrize("repeat_on_thread", [True, False])
def test_a_fragment_repeated(repeat_on_thread: bool, lower_dim_first: bool) -> None:
    big = rows().repeat((2, 3), repeat_on_thread, lower_dim_first)
    number = 1 * 3 + 2 if lower_dim_first else 2 * 2 + 1  # of the repetition (1, 2)
    thread, register = big.map_forward_thread(8 + 3, 32 + 6), big.map_forward_index(8 + 3, 32 + 6)[0]
    assert (thread, register) == ((14 + 32 * number, 1) if repeat_on_thread else (14, 1 + 4 * number))
    assert big.shape == (16, 48) and big.get_thread_size() == (32 * 6 if repeat_on_thread else 32)
    with refused(Kind.LAYOUT_SHAPE, "1 number,"):
        rows().repeat((2,))


def test_copies_of_a_fragment() -> None:
    twice = rows().replicate(2)
    assert twice.replicas == 2 and twice.get_thread_size() == 64
    assert [twice.map_forward_thread(3, 6, copy) for copy in range(2)] == [14, 46] and twice.map_forward_thread([3, 6]) == 14
    needless = T.Fragment((8, 16), forward_fn=lambda i, j, copy: (i * 4 + j % 4 + 32 * (copy % 2), j // 4), replicate=6)
    assert needless.condense_rep_var().replicas == 2 and needless.condense_rep_var().is_equal(twice) and needless.is_equal(twice)
    uneven = T.Fragment((2,), forward_fn=lambda i, copy: (i * copy + 2 * i, 0), replicate=2)
    assert uneven.condense_rep_var() is uneven


def test_layouts_by_name() -> None:
    assert layouts.make_gemm_fragment_8x8().map_forward_thread(3, 5) == 14 and layouts.make_gemm_fragment_8x8().map_forward_index(3, 5) == (1,)
    assert layouts.make_gemm_fragment_8x8_transposed().map_forward_thread(5, 3) == 14
    everywhere = layouts.make_fully_replicated_layout_fragment(tile(3, 5), 64)
    assert everywhere.replicas == everywhere.get_thread_size() == 64 and everywhere.map_forward_index(2, 4) == (14,)
    assert [everywhere.map_forward_thread(2, 4, copy) for copy in range(64)] == list(range(64))
    with refused(Kind.TARGET_FEATURE, "T.gemm_sp"):
        layouts.make_cutlass_metadata_layout(tile(64, 64))


@pytest.mark.parametrize("name", ["swizzled", "wgmma_swizzled", "tcgen05mma_swizzled", "volta_swizzled", "full_bank_swizzled"])
def test_the_widest_swizzle_spreads_a_column_over_the_banks(name: str) -> None:
    layout = getattr(layouts, f"make_{name}_layout")(tile(64, 64))
    places = layout.index[..., 0]
    assert sorted(places.reshape(-1)) == list(range(64 * 64))
    chunks = places[:8, 0] % 64 // 8  # eight rows of 128 bytes: 16-byte parts of a line
    assert sorted(chunks) == list(range(8))


@pytest.mark.parametrize(("name", "parts"), [("half", 4), ("quarter", 2)])
def test_narrower_swizzles(name: str, parts: int) -> None:
    places = getattr(layouts, f"make_{name}_bank_swizzled_layout")(tile(64, 64)).index[..., 0]
    assert sorted(places.reshape(-1)) == list(range(64 * 64))
    assert list(places[:8, 0] // (8 * parts)) == list(range(8)) and sorted(places[:8, 0] % 64 // 8) == list(range(8))


@pytest.mark.parametrize(
    ("kind", "make", "part"),
    [
        (Kind.LAYOUT_INJECTIVE, lambda: T.Layout((4, 4), lambda i, j: i + j), "(0, 1) and (1, 0) both go to"),
        (Kind.LAYOUT_SHAPE, lambda: T.Layout((4, 0), lambda i, j: i), "the shape of T.Layout holds 0"),
        (Kind.LAYOUT_SHAPE, lambda: T.Layout((4,), lambda i, j: i), "does not take 1 index"),
        (Kind.LAYOUT_SHAPE, lambda: T.Layout((4,), 3), "the function of T.Layout is 3"),
        (Kind.LAYOUT_SHAPE, lambda: T.Layout((4,), lambda i: i - 1), "negative"),
        (Kind.LAYOUT_SHAPE, lambda: T.Fragment((4,)), "was given no function"),
        (Kind.LAYOUT_SHAPE, lambda: T.Fragment((4,), forward_fn=lambda i: (i, 0), replicate=0), "replicate of T.Fragment is 0"),
        (Kind.LAYOUT_SHAPE, lambda: T.Fragment((4,), forward_fn=lambda i: i), "returns (thread, register)"),
        (Kind.LAYOUT_INJECTIVE, lambda: T.Fragment((4,), forward_fn=lambda i: (i // 2, 0)), "both go to"),
    ],
)
def test_mistakes(kind: Kind, make: Any, part: str) -> None:
    with refused(kind, part):
        make()
