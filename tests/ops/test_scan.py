"""T.cumsum and T.cummax: every axis and direction, dtypes, regions, in place; against plain numpy and the reference."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind


def scan_kernel(shape: tuple[int, ...], source: str, result: str, scans: Any) -> Any:
    """Applies `scans`, pairs of an operation and its keywords, each into its own plane of B."""

    @T.prim_func
    def kernel(A: T.Tensor(shape, source), B: T.Tensor((len(scans), *shape), result)):
        with T.Kernel(1):
            held, scanned = T.alloc_shared(shape, source), T.alloc_fragment(shape, result)
            T.copy(A, held)
            every_scan(scans, held, scanned, B)

    return kernel


def every_scan(scans: Any, held: Any, scanned: Any, B: Any) -> None:
    for plane, (operation, keywords) in enumerate(scans):
        operation(held, scanned, **keywords)
        T.copy(scanned, B[(plane, *(slice(None) for _ in held.shape))])


def plain(operation: Any, a: np.ndarray[Any, Any], dim: int, reverse: bool) -> np.ndarray[Any, Any]:
    ordered = np.flip(a, dim) if reverse else a
    made = (np.add if operation is T.cumsum else np.maximum).accumulate(ordered, axis=dim)
    return np.flip(made, dim) if reverse else made


@pytest.mark.parametrize("shape", [(9,), (5, 7), (3, 4, 6)])
def test_every_axis_and_direction(shape: tuple[int, ...]) -> None:
    cases = [
        (operation, {"dim": dim, "reverse": reverse})
        for operation in (T.cumsum, T.cummax)
        for dim in range(-len(shape), len(shape))
        for reverse in (False, True)
    ]
    a = integers(shape)
    found = run(scan_kernel(shape, "float32", "float32", cases), A=a, B=np.zeros((len(cases), *shape), np.float32))["B"]
    for plane, (operation, keywords) in enumerate(cases):
        np.testing.assert_array_equal(found[plane], plain(operation, a, **keywords))


@pytest.mark.parametrize(
    ("source", "result"),
    [("float16", "float16"), ("int8", "int32"), ("uint8", "uint8"), ("bfloat16", "float32"), ("int32", "int64"), ("uint64", "uint64"), ("int8", "int8")],
)
def test_dtypes(source: str, result: str) -> None:
    wide, narrow = T.dtype(result).numpy, T.dtype(source).numpy
    a = integers((6, 5), narrow, low=100 if source == "int8" else 0, high=128 if source == "int8" else 9)
    if source == "uint64":
        a = a + np.uint64(1 << 63) * (a % 2)
    cases = [(T.cumsum, {"dim": 0}), (T.cummax, {"dim": 1})]
    found = run(scan_kernel((6, 5), source, result, cases), A=a, B=np.zeros((2, 6, 5), wide))["B"]
    whole = a.astype(wide)
    exact = whole.astype(np.float64) if wide in (np.float16, np.float32) else whole
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found[0], np.add.accumulate(exact, axis=0, dtype=exact.dtype).astype(wide))
    np.testing.assert_array_equal(found[1], np.maximum.accumulate(whole, axis=1))


def test_sums_of_narrow_floats_are_rounded_once() -> None:
    a = np.full(40, 0.1, np.float16)
    found = run(scan_kernel((40,), "float16", "float16", [(T.cumsum, {})]), A=a, B=np.zeros((1, 40), np.float16))["B"][0]
    running, wanted = np.float32(0), []
    for element in a:
        running = np.float32(running + np.float32(element))
        wanted.append(np.float16(running))
    np.testing.assert_array_equal(found, wanted)


def test_nan_loses_against_a_number() -> None:
    a = np.array([np.nan, 1, np.nan, 3, 2, np.nan], np.float32)
    found = run(scan_kernel((6,), "float32", "float32", [(T.cummax, {}), (T.cummax, {"reverse": True})]), A=a, B=np.zeros((2, 6), np.float32))["B"]
    np.testing.assert_array_equal(found, [[-np.inf, 1, 1, 3, 3, 3], [3, 3, 3, 3, 2, -np.inf]])


def test_in_place_and_overlapping_regions() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((4, 8), "int32"), B: T.Tensor((3, 4, 8), "int32")):
        with T.Kernel(1):
            held = T.alloc_shared((4, 8), "int32")
            T.copy(A, held)
            T.cumsum(held, dim=1)
            T.copy(held, B[0, :, :])
            T.cumsum(held[1:3, 2:6], dim=0, reverse=True)
            T.copy(held, B[1, :, :])
            T.cummax(held[:, 0:7], held[:, 1:8], dim=-1)
            T.copy(held, B[2, :, :])

    a = integers((4, 8), np.int32)
    first = np.cumsum(a, axis=1)
    second = first.copy()
    second[1] += second[2]
    second[1, [0, 1, 6, 7]] = first[1, [0, 1, 6, 7]]
    third = second.copy()
    third[:, 1:] = np.maximum.accumulate(second[:, :7], axis=1)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((3, 4, 8), np.int32))["B"], [first, second, third])


def test_regions_of_a_tensor_outside_it() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((6,), "int32"), B: T.Tensor((2, 8), "int32")):
        with T.Kernel(2) as bx:
            T.cumsum(A[bx * 5 - 1 : bx * 5 + 7], B[bx, :])

    a = integers((6,), np.int32)
    padded = np.concatenate([[0], a, np.zeros(6, np.int32)])
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((2, 8), np.int32))["B"], [np.cumsum(padded[5 * x : 5 * x + 8]) for x in range(2)])


def test_an_fp8_maximum_starts_below_everything() -> None:
    a = integers((7,), ml_dtypes.float8_e4m3fn, low=-9, high=-2)
    found = run(scan_kernel((7,), "float8_e4m3fn", "float8_e4m3fn", [(T.cummax, {})]), A=a, B=np.zeros((1, 7), ml_dtypes.float8_e4m3fn))["B"][0]
    np.testing.assert_array_equal(found.astype(np.float32), np.maximum.accumulate(a.astype(np.float32)))


@pytest.mark.parametrize(("kind", "arguments"), [(Kind.REDUCE_AXIS, {"dim": 2}), (Kind.REDUCE_AXIS, {"dim": -3}), (Kind.REDUCE_AXIS, {"dim": "x"})])
def test_axes_that_do_not_exist(kind: Kind, arguments: Any) -> None:
    with refused(kind):

        @T.prim_func
        def kernel(A: T.Tensor((4, 5), "int32")):
            with T.Kernel(1):
                T.cumsum(A, **arguments)


def test_operands_that_do_not_fit() -> None:
    n = T.dynamic("n")
    with refused(Kind.SCAN_SHAPE):

        @T.prim_func
        def shape(A: T.Tensor((4, 5), "int32")):
            with T.Kernel(1):
                T.cumsum(A, T.alloc_shared((5, 4), "int32"))

    with refused(Kind.SHAPE_STATIC):

        @T.prim_func
        def size(A: T.Tensor((n,), "int32")):
            with T.Kernel(1):
                T.cumsum(A)

    with refused(Kind.REDUCE_DTYPE):

        @T.prim_func
        def dtype(A: T.Tensor((4,), "bool")):
            with T.Kernel(1):
                T.cummax(A)
