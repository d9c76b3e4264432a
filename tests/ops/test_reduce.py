"""T.reduce_*: every operation, axis and dtype, clear=False, NaN, regions, overlapping memory; against plain numpy and the reference."""

from __future__ import annotations

import random
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import assert_same, integers, refused, run
from tests.ops.test_relayout import of_element, random_fragment
from tilewright.errors import Kind

NUMPY: dict[str, Any] = {
    "sum": lambda a, axis: a.sum(axis, dtype=a.dtype),
    "max": lambda a, axis: a.max(axis),
    "min": lambda a, axis: a.min(axis),
    "absmax": lambda a, axis: np.abs(a).max(axis),
    "abssum": lambda a, axis: np.abs(a).sum(axis, dtype=a.dtype),
    "bitand": lambda a, axis: np.bitwise_and.reduce(a, axis),
    "bitor": lambda a, axis: np.bitwise_or.reduce(a, axis),
    "bitxor": lambda a, axis: np.bitwise_xor.reduce(a, axis),
}
MERGE: dict[str, Any] = {
    "sum": np.add,
    "max": np.maximum,
    "min": np.minimum,
    "absmax": lambda old, new: np.maximum(np.abs(old), new),
    "bitand": np.bitwise_and,
    "bitor": np.bitwise_or,
    "bitxor": np.bitwise_xor,
}
NUMBERS = ("sum", "max", "min", "absmax", "abssum")
ALL = tuple(NUMPY)


def result_shape(shape: tuple[int, ...], axis: int, is_kept: bool) -> tuple[int, ...]:
    rest = tuple(n for a, n in enumerate(shape) if a != axis % len(shape))
    return tuple(1 if a == axis % len(shape) else n for a, n in enumerate(shape)) if is_kept else rest or (1,)


def reduce_all(held: Any, total: Any, B: Any, kinds: tuple[str, ...], axis: int, start: Any, options: dict[str, Any]) -> None:
    for plane, kind in enumerate(kinds):
        if start is not None:
            T.fill(total, start)
        T.reduce(held, total, kind, axis, clear=start is None, **options)
        T.copy(total, B[(plane, *(slice(None) for _ in total.shape))])


def kernel_of(
    shape: tuple[int, ...], axis: int, source: str, result: str, kinds: tuple[str, ...], is_kept: bool = False, start: Any = None, **options: Any
) -> Any:
    """Reduces A with every operation into the planes of B; from `start` where it is given."""
    reduced = result_shape(shape, axis, is_kept)

    @T.prim_func
    def kernel(A: T.Tensor(shape, source), B: T.Tensor((len(kinds), *reduced), result)):
        with T.Kernel(1):
            held, total = T.alloc_shared(shape, source), T.alloc_fragment(reduced, result)
            T.copy(A, held)
            reduce_all(held, total, B, kinds, axis, start, options)

    return kernel


def check(
    shape: tuple[int, ...],
    axis: int,
    source: str,
    result: str,
    kinds: tuple[str, ...],
    a: Any,
    is_kept: bool = False,
    start: Any = None,
    tolerance: float = 0.0,
) -> None:
    kernel = kernel_of(shape, axis, source, result, kinds, is_kept, start)
    out = T.dtype(result).numpy
    found = run(kernel, tolerance, A=a, B=np.zeros((len(kinds), *result_shape(shape, axis, is_kept)), out))["B"]
    wide = a.astype(out) if out.kind in "iub" else a.astype(out).astype(np.float64)
    for plane, kind in enumerate(kinds):
        wanted = NUMPY[kind](wide, axis)
        wanted = MERGE[kind](np.asarray(start).astype(wide.dtype), wanted) if start is not None else wanted
        assert_same(found[plane].reshape(-1), np.asarray(wanted).astype(out).reshape(-1), tolerance, kind)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("is_kept", [False, True])
def test_every_axis(axis: int, is_kept: bool) -> None:
    check((5, 3, 9), axis, "int32", "int32", ALL, integers((5, 3, 9), np.int32), is_kept)


@pytest.mark.parametrize("shape", [(1,), (37,), (1, 1), (2, 33), (33, 2), (1, 70)])
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    check(shape, -1, "float32", "float32", NUMBERS, integers(shape))
    check(shape, 0, "float32", "float32", NUMBERS, integers(shape))


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("float16", "float16"),
        ("float16", "float32"),
        ("bfloat16", "bfloat16"),
        ("float8_e4m3fn", "float8_e4m3fn"),
        ("float8_e5m2", "float32"),
        ("float32", "float64"),
        ("int8", "int32"),
        ("float32", "int16"),
    ],
)
def test_dtypes_of_numbers(source: str, result: str) -> None:
    check((6, 11), 1, source, result, NUMBERS, integers((6, 11), T.dtype(source).numpy, low=-1, high=2))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "uint64"])
def test_dtypes_of_integers_wrap(dtype: str) -> None:
    out = T.dtype(dtype).numpy
    limits = np.iinfo(out)
    a = np.random.default_rng(1).integers(limits.min, limits.max, (4, 9), dtype=out, endpoint=True)
    a[0, 3], a[2, 2] = limits.min, limits.max
    with np.errstate(over="ignore"):
        check((4, 9), 1, dtype, dtype, ALL, a)
        check((4, 9), 0, dtype, dtype, tuple(MERGE), a, start=3)


def test_bools() -> None:
    a = integers((5, 4), low=0, high=2) > 0
    check((5, 4), 1, "bool", "bool", ("max", "min", "bitand", "bitor", "bitxor"), a)
    check((5, 4), 0, "bool", "int32", ("sum", "max"), a)


@pytest.mark.parametrize("start", [-2, 0, 7])
def test_what_the_result_holds_counts_once(start: int) -> None:
    check((5, 8), 1, "int32", "int32", tuple(MERGE), integers((5, 8), np.int32), start=start)
    check((5, 8), 0, "float16", "float32", ("sum", "max", "min", "absmax"), integers((5, 8), np.float16), start=start)


def test_sums_of_narrow_floats_are_rounded_once() -> None:
    a = np.full((2, 2049), 1, np.float16)  # 2048 + 1 is no float16: a running float16 would stop there
    a[0, 0] = 3
    found = run(kernel_of((2, 2049), 1, "float16", "float16", ("sum",)), A=a, B=np.zeros((1, 2), np.float16))["B"]
    np.testing.assert_array_equal(found, np.array([[2051, 2049]], np.float16))


def test_random_floats_in_any_order() -> None:
    a = np.random.default_rng(2).standard_normal((7, 61)).astype(np.float32)
    check((7, 61), 1, "float32", "float32", NUMBERS, a, tolerance=1e-6)
    check((7, 61), 0, "float32", "bfloat16", NUMBERS, a, tolerance=1e-2)


def test_nan_loses_unless_it_is_kept() -> None:
    a = np.array([[1, np.nan, 3], [np.nan, np.nan, np.nan], [4, 5, -6], [np.inf, -np.inf, np.nan]], np.float32)
    kinds = ("max", "min", "absmax")
    zeros = np.zeros((3, 4), np.float32)
    found = run(kernel_of((4, 3), 1, "float32", "float32", kinds), A=a, B=zeros)["B"]
    np.testing.assert_array_equal(found, [[3, -np.inf, 5, np.inf], [1, np.inf, -6, -np.inf], [3, -np.inf, 6, np.inf]])
    found = run(kernel_of((4, 3), 1, "float32", "float32", kinds, nan_propagate=True), A=a, B=zeros)["B"]
    np.testing.assert_array_equal(found, [[np.nan, np.nan, 5, np.nan], [np.nan, np.nan, -6, np.nan], [np.nan, np.nan, 6, np.nan]])
    found = run(kernel_of((4, 3), 1, "float32", "float32", ("max",), start=float("nan"), nan_propagate=True), A=a[2:3].repeat(4, 0), B=zeros[:1])["B"]
    np.testing.assert_array_equal(found, np.full((1, 4), np.nan))
    half = a.astype(np.float16)
    found = run(kernel_of((4, 3), 1, "float16", "float16", ("max",), nan_propagate=True), A=half, B=zeros[:1].astype(np.float16))["B"]
    np.testing.assert_array_equal(found, [[np.nan, np.nan, 5, np.nan]])


def test_an_absolute_value_has_no_sign() -> None:
    a = np.array([[0.0, 0.0, 0.0], [-0.0, -0.0, -0.0]], np.float32)
    for length, target in ((3, "cpu"), (3, "simulate"), (1, "simulate")):
        found = np.ones((2, 2), np.float32)
        kernel = kernel_of((2, length), 1, "float32", "float32", ("absmax", "abssum"))
        tilewright.compile(kernel, target=target)(a[:, :length].copy(), found)
        np.testing.assert_array_equal(found.view(np.int32), np.zeros((2, 2), np.int32))


def test_dtypes_without_infinity_start_at_their_limits() -> None:
    a = integers((3, 5), ml_dtypes.float8_e4m3fn, low=-9, high=-3)
    check((3, 5), 1, "float8_e4m3fn", "float8_e4m3fn", ("max", "min"), a)


def test_regions() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((4, 6, 8), "int32"), B: T.Tensor((3, 8), "int32"), C: T.Tensor((4,), "int32"), D: T.Tensor((1,), "int32")):
        with T.Kernel(1):
            held = T.alloc_shared((4, 6, 8), "int32")
            total = T.alloc_shared((3, 8), "int32")
            column = T.alloc_fragment((4, 2), "int32")
            one = T.alloc_var("int32")
            T.copy(A, held)
            T.fill(total, 100)
            T.reduce_sum(held[2, 1:4, 2:7], total[1 : 4 - 2 + 0, 0:5][0, :], dim=0)
            T.copy(total, B)
            T.reduce_max(held[0:4, 5, :], column[:, 1], dim=1)
            T.copy(column[:, 1], C)
            T.reduce_min(held[3, 2, 0:5], one, dim=0)
            D[0] = one

    a = integers((4, 6, 8), np.int32)
    found = run(kernel, A=a, B=np.zeros((3, 8), np.int32), C=np.zeros(4, np.int32), D=np.zeros(1, np.int32))
    wanted = np.full((3, 8), 100)
    wanted[1, :5] = a[2, 1:4, 2:7].sum(0)
    np.testing.assert_array_equal(found["B"], wanted)
    np.testing.assert_array_equal(found["C"], a[:, 5].max(1))
    np.testing.assert_array_equal(found["D"], a[3, 2, :5].min())


def test_regions_of_a_tensor_outside_it() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((5, 6), "int32"), B: T.Tensor((2, 4), "int32"), C: T.Tensor((7,), "int32")):
        with T.Kernel(2) as bx:
            T.annotate_safe_value({A: 50})
            T.reduce_sum(A[bx * 4 - 2 : bx * 4 + 2, 3:8], B[bx, :], dim=1)
            T.reduce_sum(A[bx * 4 : bx * 4 + 4, :], C[bx * 4 : bx * 4 + 4], dim=1)

    a = integers((5, 6), np.int32)
    padded = np.full((11, 8), 50)
    padded[2:7, :6] = a
    found = run(kernel, A=a, B=np.zeros((2, 4), np.int32), C=np.zeros(7, np.int32))
    np.testing.assert_array_equal(found["B"], [padded[4 * x : 4 * x + 4, 3:8].sum(1) for x in range(2)])
    np.testing.assert_array_equal(found["C"], padded[2:9, :6].sum(1))


def test_dynamic_extents() -> None:
    n = T.dynamic("n", "int64")

    @T.prim_func
    def kernel(A: T.Tensor((n, 4), "float32"), B: T.Tensor((n,), "float32"), C: T.Tensor((4,), "float32")):
        with T.Kernel(1):
            T.reduce_max(A, B, dim=1)
            T.reduce_sum(A[1:n, :], C, dim=0)

    a = integers((7, 4))
    found = run(kernel, A=a, B=np.zeros(7, np.float32), C=np.zeros(4, np.float32))
    np.testing.assert_array_equal(found["B"], a.max(1))
    np.testing.assert_array_equal(found["C"], a[1:].sum(0))


def test_the_result_in_the_memory_of_the_source() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((4, 4), "int32"), B: T.Tensor((2, 4, 4), "int32")):
        with T.Kernel(1):
            held = T.alloc_shared((4, 4), "int32")
            T.copy(A, held)
            T.reduce_sum(held, held[0, :], dim=1)
            T.copy(held, B[0, :, :])
            T.reduce_max(held, held[:, 0], dim=0, clear=False)
            T.copy(held, B[1, :, :])

    a = integers((4, 4), np.int32)
    first = a.copy()
    first[0] = a.sum(1)
    second = first.copy()
    second[:, 0] = np.maximum(first[:, 0], first.max(0))
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((2, 4, 4), np.int32))["B"], [first, second])


def test_the_named_forms() -> None:
    """Each takes `dim` by position and has its own default of -1."""
    forms = {
        "sum": T.reduce_sum,
        "max": T.reduce_max,
        "min": T.reduce_min,
        "absmax": T.reduce_absmax,
        "abssum": T.reduce_abssum,
        "bitand": T.reduce_bitand,
        "bitor": T.reduce_bitor,
        "bitxor": T.reduce_bitxor,
    }

    def each(held: Any, rows: Any, columns: Any, B: Any, C: Any) -> None:
        for plane, form in enumerate(forms.values()):
            form(held, rows)
            T.copy(rows, B[plane, :])
            form(held, columns, 0)
            T.copy(columns, C[plane, :])

    @T.prim_func
    def kernel(A: T.Tensor((3, 5), "int32"), B: T.Tensor((8, 3), "int32"), C: T.Tensor((8, 5), "int32")):
        with T.Kernel(1):
            held, rows, columns = T.alloc_shared((3, 5), "int32"), T.alloc_fragment((3,), "int32"), T.alloc_fragment((5,), "int32")
            T.copy(A, held)
            each(held, rows, columns, B, C)

    a = integers((3, 5), np.int32)
    found = run(kernel, A=a, B=np.zeros((8, 3), np.int32), C=np.zeros((8, 5), np.int32))
    np.testing.assert_array_equal(found["B"], [NUMPY[kind](a, 1) for kind in forms])
    np.testing.assert_array_equal(found["C"], [NUMPY[kind](a, 0) for kind in forms])


@pytest.mark.parametrize(
    ("kind", "reduction", "dim", "result", "dtype"),
    [
        (Kind.REDUCE_AXIS, "sum", 2, (4,), "int32"),
        (Kind.REDUCE_AXIS, "sum", -3, (4,), "int32"),
        (Kind.REDUCE_AXIS, "sum", 0.5, (4,), "int32"),
        (Kind.REDUCE_OPERATION, "product", 1, (4,), "int32"),
        (Kind.REDUCE_SHAPE, "sum", 1, (5,), "int32"),
        (Kind.REDUCE_SHAPE, "sum", 0, (4,), "int32"),
        (Kind.REDUCE_SHAPE, "sum", 1, (1, 4), "int32"),
        (Kind.REDUCE_DTYPE, "bitor", 1, (4,), "float32"),
        (Kind.REDUCE_DTYPE, "sum", 1, (4,), "bool"),
    ],
)
def test_what_is_refused(kind: Kind, reduction: str, dim: Any, result: tuple[int, ...], dtype: str) -> None:
    with refused(kind):

        @T.prim_func
        def kernel(A: T.Tensor((4, 5), "int32")):
            with T.Kernel(1):
                T.reduce(A, T.alloc_fragment(result, dtype), reduction, dim)


@pytest.mark.parametrize("seed", range(16))
def test_a_fragment_in_any_layout_on_a_gpu(seed: int) -> None:
    """Where the axis runs over XORs of registers, lanes and warps together, the fragment is brought out of them; no thread reduces a row alone."""
    rng = random.Random(seed)
    layout, dim = of_element(random_fragment(rng, (16, 16))), seed % 2

    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "int32"), B: T.Tensor((16,), "int32")):
        with T.Kernel(1, threads=64):
            x, total = T.alloc_fragment((16, 16), "int32"), T.alloc_fragment((16,), "int32")
            T.annotate_layout({x: T.Fragment((16, 16), forward_fn=layout)})
            T.copy(A, x)
            T.reduce_sum(x, total, dim=dim)
            T.copy(total, B)

    a = integers((16, 16), np.int32)
    compiled = tilewright.compile(kernel, target="simulate")
    assert " serial(" not in compiled.source
    found = np.zeros(16, np.int32)
    compiled(a, found)
    np.testing.assert_array_equal(found, a.sum(dim))
