"""T.copy: regions, points, clipping at both edges, conversion, matching of shapes; against plain numpy and the reference."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind


def window(array: np.ndarray[Any, Any], start: tuple[int, ...], shape: tuple[int, ...], fill: Any = 0) -> np.ndarray[Any, Any]:
    """array[start : start + shape], with `fill` where that lies outside."""
    made = np.full(shape, fill, array.dtype)
    for position in np.ndindex(*shape):
        at = tuple(s + p for s, p in zip(start, position, strict=True))
        if all(0 <= i < n for i, n in zip(at, array.shape, strict=True)):
            made[position] = array[at]
    return made


def stage(
    rows: int,
    columns: int,
    tile: tuple[int, int],
    step: tuple[int, int],
    shift: tuple[int, int],
    source: str = "float32",
    middle: str = "float32",
    result: str = "float32",
) -> Any:
    """Blocks that each copy a window of A into a tile and the tile to their own place in B."""
    m, n = tile

    @T.prim_func
    def kernel(A: T.Tensor((rows, columns), source), B: T.Tensor((3, 2, m, n), result)):
        with T.Kernel(3, 2) as (bx, by):
            held = T.alloc_shared((m, n), middle)
            T.copy(A[bx * step[0] + shift[0], by * step[1] + shift[1]], held)
            T.copy(held, B[bx, by, :, :])

    return kernel


@pytest.mark.parametrize("shift", [(0, 0), (-3, 2), (2, -5), (-4, -4)])
def test_windows_are_zero_outside(shift: tuple[int, int]) -> None:
    a = integers((13, 9))
    found = run(stage(13, 9, (4, 6), (5, 7), shift), A=a, B=np.full((3, 2, 4, 6), 99, np.float32))
    for x in range(3):
        for y in range(2):
            np.testing.assert_array_equal(found["B"][x, y], window(a, (5 * x + shift[0], 7 * y + shift[1]), (4, 6)))


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(st.integers(1, 11), st.integers(1, 11)),
    st.tuples(st.integers(1, 7), st.integers(1, 9)),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(-7, 7), st.integers(-7, 7)),
)
def test_any_window(shape: tuple[int, int], tile: tuple[int, int], step: tuple[int, int], shift: tuple[int, int]) -> None:
    a = integers(shape)
    found = run(stage(*shape, tile, step, shift), A=a, B=np.zeros((3, 2, *tile), np.float32))
    for x in range(3):
        for y in range(2):
            np.testing.assert_array_equal(found["B"][x, y], window(a, (step[0] * x + shift[0], step[1] * y + shift[1]), tile))


DTYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "int8": np.int8,
    "uint8": np.uint8,
    "int32": np.int32,
    "int64": np.int64,
    "float64": np.float64,
    "bool": np.bool_,
}


@pytest.mark.parametrize(
    ("source", "middle", "result"),
    [
        ("float32", "float16", "float32"),
        ("float16", "float32", "bfloat16"),
        ("float32", "float8_e4m3fn", "float32"),
        ("int8", "float16", "int32"),
        ("float32", "int8", "int64"),
        ("uint8", "int8", "float64"),
        ("int32", "bool", "float32"),
        ("float64", "float32", "float16"),
        ("bfloat16", "int32", "uint8"),
    ],
)
def test_conversions(source: str, middle: str, result: str) -> None:
    a = integers((5, 9), DTYPES[source], low=0 if source.startswith("u") else -4)
    found = run(stage(5, 9, (5, 9), (0, 0), (0, 0), source, middle, result), A=a, B=np.zeros((3, 2, 5, 9), DTYPES[result]))
    np.testing.assert_array_equal(found["B"][2, 1].astype(np.float64), a.astype(DTYPES[middle]).astype(DTYPES[result]).astype(np.float64))


def test_rounding_of_a_conversion_is_to_nearest_even() -> None:
    a = (np.linspace(-3, 3, 77) * 1.2345).astype(np.float32).reshape(7, 11)
    found = run(stage(7, 11, (7, 11), (0, 0), (0, 0), "float32", "bfloat16", "float32"), A=a, B=np.zeros((3, 2, 7, 11), np.float32))
    np.testing.assert_array_equal(found["B"][0, 0], a.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_destination_outside_is_not_written() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((4, 6), "int32"), B: T.Tensor((7, 8), "int32")):
        with T.Kernel(2) as bx:
            T.copy(A, B[bx * 7 - 2, 3])

    a, b = integers((4, 6), np.int32), np.full((7, 8), 7, np.int32)
    wanted = b.copy()
    wanted[0:2, 3:8], wanted[5:7, 3:8] = a[2:4, :5], a[0:2, :5]
    np.testing.assert_array_equal(run(kernel, A=a, B=b)["B"], wanted)


def test_tile_outside_itself_is_clipped_too() -> None:
    """A window of a tile that runs over its end at some block: what is outside reads as zero and is not written."""

    @T.prim_func
    def kernel(A: T.Tensor((3, 8), "int32"), B: T.Tensor((3, 4), "int32"), C: T.Tensor((3, 8), "int32")):
        with T.Kernel(3) as bx:
            held, part, written = T.alloc_shared((8,), "int32"), T.alloc_shared((4,), "int32"), T.alloc_shared((8,), "int32")
            T.copy(A[bx, :], held)
            T.copy(held[bx * 3 : bx * 3 + 4], part)
            T.copy(part, B[bx, :])
            T.clear(written)
            T.copy(part, written[bx * 3])
            T.copy(written, C[bx, :])

    a = integers((3, 8), np.int32)
    found = run(kernel, A=a, B=np.zeros((3, 4), np.int32), C=np.zeros((3, 8), np.int32))
    for x in range(3):
        part = window(a[x], (3 * x,), (4,))
        np.testing.assert_array_equal(found["B"][x], part)
        np.testing.assert_array_equal(found["C"][x], window(part, (-3 * x,), (8,)))


def test_sizes_of_one_are_ignored_where_the_others_agree() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((2, 5, 3, 6), "float32"), B: T.Tensor((5, 1, 6), "float32"), C: T.Tensor((6, 1), "float32")):
        with T.Kernel(1):
            held, row = T.alloc_shared((5, 6), "float32"), T.alloc_fragment((1, 6), "float32")
            T.copy(A[1, 0:5, 2, 0:6], held)
            T.copy(held, B[:, 0, :])
            T.copy(A[0, 3, 1, :], row)
            T.copy(row, C[0:6, :])

    a = integers((2, 5, 3, 6))
    found = run(kernel, A=a, B=np.zeros((5, 1, 6), np.float32), C=np.zeros((6, 1), np.float32))
    np.testing.assert_array_equal(found["B"][:, 0], a[1, :, 2])
    np.testing.assert_array_equal(found["C"][:, 0], a[0, 3, 1])


def test_a_size_of_one_is_stretched() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((1, 6), "float32"), B: T.Tensor((4, 6), "float32")):
        with T.Kernel(1):
            held = T.alloc_shared((4, 6), "float32")
            T.copy(A[0:1, 0:6], held[0:4, 0:6])
            T.copy(held, B)

    a = integers((1, 6))
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((4, 6), np.float32))["B"], np.broadcast_to(a, (4, 6)))


def test_dynamic_extents_copy_so_many_elements() -> None:
    n = T.dynamic("n")

    @T.prim_func
    def kernel(A: T.Tensor((n, 5), "float32"), lengths: T.Tensor((3,), "int32"), B: T.Tensor((3, 16, 5), "float32")):
        with T.Kernel(3) as bx:
            held = T.alloc_shared((16, 5), "float32")
            T.fill(held, -1)
            length = T.alloc_var("int32")
            length = lengths[bx]
            T.copy(A[0:length, :], held)
            T.copy(held, B[bx, :, :])

    a, lengths = integers((11, 5)), np.array([0, 7, 14], np.int32)
    found = run(kernel, A=a, lengths=lengths, B=np.zeros((3, 16, 5), np.float32))["B"]
    for x, length in enumerate(lengths):
        wanted = np.full((16, 5), -1, np.float32)
        wanted[:length] = window(a, (0, 0), (length, 5))
        np.testing.assert_array_equal(found[x], wanted)


def test_whole_tensors_of_symbolic_shape() -> None:
    m, n = T.dynamic("m, n")

    @T.prim_func
    def kernel(A: T.Tensor((m, n), "float32"), B: T.Tensor((m, n), "float16")):
        with T.Kernel(1):
            T.copy(A, B)

    a = integers((5, 7))
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((5, 7), np.float16))["B"], a)


def test_symbols_of_64_bits() -> None:
    m, n = T.dynamic("m, n", "int64")

    @T.prim_func
    def kernel(A: T.Tensor((m, n), "int16"), B: T.Tensor((n, m), "int16")):
        with T.Kernel(T.ceildiv(m, 4), T.ceildiv(n, 4)) as (bx, by):
            held, turned = T.alloc_shared((4, 4), "int16"), T.alloc_shared((4, 4), "int16")
            T.copy(A[bx * 4, by * 4], held)
            T.transpose(held, turned)
            T.copy(turned, B[by * 4, bx * 4])
            T.fill(B[n : n + 1, 0:m], 3)  # outside: skipped

    a = integers((7, 10), np.int16)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((10, 7), np.int16))["B"], a.T)


def test_one_element_is_an_assignment() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((6,), "float32"), B: T.Tensor((6,), "int8")):
        with T.Kernel(1):
            for i in T.Parallel(6):
                T.copy(A[5 - i], B[i])

    a = np.array([0.5, -1.5, 2.9, -3.9, 4, 5], np.float32)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(6, np.int8))["B"], np.trunc(a[::-1]).astype(np.int8))


def test_safe_value_is_read_outside() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((5,), "float32"), B: T.Tensor((8,), "float16")):
        with T.Kernel(1):
            T.annotate_safe_value({A: -7})
            held = T.alloc_shared((8,), "float16")
            T.copy(A[-1], held)
            T.copy(A[3:11], held)
            T.copy(held, B)

    a = integers((5,))
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(8, np.float16))["B"], window(a, (3,), (8,), -7).astype(np.float16))


@pytest.mark.parametrize("shift", [1, 2])
def test_overlapping_regions_of_one_tile(shift: int) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9,), "int32"), B: T.Tensor((9,), "int32"), C: T.Tensor((9,), "int32")):
        with T.Kernel(1):
            held = T.alloc_shared((9,), "int32")
            T.copy(A, held)
            T.copy(held[0 : 9 - shift], held[shift:9])
            T.copy(held, B)
            T.copy(held[shift:9], held[0 : 9 - shift])
            T.copy(held, C)

    a = np.arange(9, dtype=np.int32)
    moved = a.copy()
    moved[shift:] = a[:-shift]
    back = moved.copy()
    back[:-shift] = moved[shift:]
    found = run(kernel, A=a, B=np.zeros(9, np.int32), C=np.zeros(9, np.int32))
    np.testing.assert_array_equal(found["B"], moved)
    np.testing.assert_array_equal(found["C"], back)


def test_overlapping_regions_of_one_tensor() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((40,), "int32")):
        with T.Kernel(1):
            T.copy(A[0:39], A[1:40])

    a = np.arange(40, dtype=np.int32)
    np.testing.assert_array_equal(run(kernel, A=a)["A"], np.concatenate([a[:1], a[:-1]]))


def test_a_place_read_from_the_tile_that_is_overwritten() -> None:
    """The place is evaluated once, before anything moves."""

    @T.prim_func
    def kernel(A: T.Tensor((12,), "int32"), B: T.Tensor((4,), "int32")):
        with T.Kernel(1):
            index = T.alloc_shared((4,), "int32")
            T.fill(index, 5)
            T.copy(A[index[0] : index[0] + 4], index)
            T.copy(index, B)

    a = np.arange(12, dtype=np.int32)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(4, np.int32))["B"], a[5:9])


def test_region_aliases() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((6, 8), "float32"), B: T.Tensor((6, 8), "float32")):
        with T.Kernel(1):
            held = T.alloc_shared((6, 8), "float32")
            corner = held[2:5, 1:4]
            T.clear(held)
            T.copy(A[0:3, 0:3], corner)
            corner[1:3, 0:2] = A[3:5, 6:8]
            corner[0, 0] = 42
            T.copy(held, B)

    a = integers((6, 8))
    wanted = np.zeros((6, 8), np.float32)
    wanted[2:5, 1:4] = a[:3, :3]
    wanted[3:5, 1:3] = a[3:5, 6:8]
    wanted[2, 1] = 42
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((6, 8), np.float32))["B"], wanted)


def test_strided_and_packed_tensors() -> None:
    ld = T.dynamic("ld")

    @T.prim_func
    def kernel(A: T.StridedTensor((5, 6), (ld, 1), "float32"), P: T.Tensor((5, 6), "int4"), B: T.Tensor((5, 6), "float32"), C: T.Tensor((5, 6), "int8")):
        with T.Kernel(1):
            T.copy(A, B)
            T.copy(P, C)

    memory = integers((5, 9))
    packed = np.arange(15, dtype=np.uint8).reshape(5, 3) * 17 + 0x83
    found = run(kernel, A=memory[:, :6], P=packed, B=np.zeros((5, 6), np.float32), C=np.zeros((5, 6), np.int8))
    np.testing.assert_array_equal(found["B"], memory[:, :6])
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(5, 6).astype(np.int8)
    np.testing.assert_array_equal(found["C"], np.where(nibbles > 7, nibbles - 16, nibbles))


def test_shapes_that_do_not_match() -> None:
    with refused(Kind.COPY_SHAPE, "A is float32[4, 6]", "two whole buffers"):

        @T.prim_func
        def whole(A: T.Tensor((4, 6), "float32")):
            with T.Kernel(1):
                T.copy(A, T.alloc_shared((4, 5), "float32"))

    with refused(Kind.COPY_SHAPE, "the destination tile has 3 elements where the source has 6"):

        @T.prim_func
        def small(A: T.Tensor((4, 6), "float32")):
            with T.Kernel(1):
                T.copy(A[0:4, 0:6], T.alloc_shared((4, 3), "float32"))

    with refused(Kind.COPY_SHAPE, "one index per dimension"):

        @T.prim_func
        def rank(A: T.Tensor((4,), "float32")):
            with T.Kernel(1):
                T.copy(A[0], T.alloc_shared((4, 3), "float32"))

    with refused(Kind.OPERAND_KIND, "the source of T.copy is"):

        @T.prim_func
        def value(A: T.Tensor((4,), "float32")):
            with T.Kernel(1):
                T.copy(A[0] + 1, A[1])
