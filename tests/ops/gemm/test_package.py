"""T.gemm: transposes, dtypes, regions, clearing, odd shapes; against plain numpy and the reference. Integer data, so that sums are exact in any order."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.language as T
from tests.execution import assert_same, integers, refused, run
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind
from tilewright.ops.gemm import compute_dtype


def product(
    m: int, n: int, k: int, operand: str = "float32", accumulator: str = "float32", ta: bool = False, tb: bool = False, clear: Any = False, other: str = ""
) -> Any:
    """C = 3 + op(A) @ op(B), where the 3 is what the accumulator held."""
    a_shape, b_shape, second = (k, m) if ta else (m, k), (n, k) if tb else (k, n), other or operand

    @T.prim_func
    def kernel(A: T.Tensor(a_shape, operand), B: T.Tensor(b_shape, second), C: T.Tensor((m, n), accumulator)):
        with T.Kernel(1):
            a, b, c = T.alloc_shared(a_shape, operand), T.alloc_shared(b_shape, second), T.alloc_fragment((m, n), accumulator)
            T.copy(A, a)
            T.copy(B, b)
            T.fill(c, 3)
            T.gemm(a, b, c, transpose_A=ta, transpose_B=tb, clear_accum=clear)
            T.copy(c, C)

    return kernel


def exact(a: Any, b: Any, ta: bool = False, tb: bool = False) -> Any:
    left, right = np.asarray(a).astype(np.float64), np.asarray(b).astype(np.float64)
    return (left.T if ta else left) @ (right.T if tb else right)


def check(m: int, n: int, k: int, ta: bool = False, tb: bool = False, operand: str = "float32", accumulator: str = "float32", other: str = "") -> None:
    low = 0 if operand.startswith("u") else -3
    a, b = (
        integers((k, m) if ta else (m, k), as_dtype(operand).numpy, low),
        integers((n, k) if tb else (k, n), as_dtype(other or operand).numpy, -3 if other else low, seed=1),
    )
    wide = as_dtype(accumulator).numpy
    found = run(product(m, n, k, operand, accumulator, ta, tb, other=other), A=a, B=b, C=np.zeros((m, n), wide))["C"]
    assert_same(found, (exact(a, b, ta, tb) + 3).astype(wide))


@pytest.mark.parametrize(("ta", "tb"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (16, 16, 16), (13, 37, 21), (64, 24, 40)])
def test_transposes_and_odd_shapes(m: int, n: int, k: int, ta: bool, tb: bool) -> None:
    check(m, n, k, ta, tb)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.booleans(), st.sampled_from(["float32", "float16", "int8", "float64"]))
def test_any_shape(m: int, n: int, k: int, ta: bool, tb: bool, operand: str) -> None:
    check(m, n, k, ta, tb, operand, {"int8": "int32", "float64": "float64"}.get(operand, "float32"))


@pytest.mark.parametrize(
    ("operand", "accumulator", "other"),
    [
        ("float16", "float16", ""),
        ("bfloat16", "float32", ""),
        ("float16", "float32", ""),
        ("tfloat32", "float32", ""),
        ("float8_e4m3fn", "float32", ""),
        ("float8_e4m3fn", "float16", "float8_e5m2"),
        ("int8", "int32", ""),
        ("uint8", "int32", "int8"),
        ("int16", "int32", ""),
        ("int32", "int64", ""),
        ("uint8", "uint32", ""),
        ("float32", "float64", ""),
        ("float64", "float32", ""),
        ("int4", "int32", ""),
    ],
)
def test_dtypes(operand: str, accumulator: str, other: str) -> None:
    if operand == "int4":

        @T.prim_func
        def kernel(A: T.Tensor((12, 10), "int8"), B: T.Tensor((10, 9), "int8"), C: T.Tensor((12, 9), "int32")):
            with T.Kernel(1):
                a, b, c = T.alloc_shared((12, 10), "int4"), T.alloc_shared((10, 9), "int4"), T.alloc_fragment((12, 9), "int32")
                T.copy(A, a)
                T.copy(B, b)
                T.clear(c)
                T.gemm(a, b, c)
                T.copy(c, C)

        x, y = integers((12, 10), np.int8, -8, 8), integers((10, 9), np.int8, -8, 8, seed=1)
        np.testing.assert_array_equal(run(kernel, A=x, B=y, C=np.zeros((12, 9), np.int32))["C"], exact(x, y))
    else:
        check(12, 9, 10, operand=operand, accumulator=accumulator, other=other)


@pytest.mark.parametrize(
    ("operand", "accumulator", "wanted"),
    [
        ("float16", "float16", "float32"),
        ("float32", "float64", "float64"),
        ("float64", "float32", "float64"),
        ("int8", "int32", "int32"),
        ("int8", "int64", "int64"),
        ("uint8", "uint32", "uint32"),
    ],
)
def test_what_products_are_summed_in(operand: str, accumulator: str, wanted: str) -> None:
    assert compute_dtype(as_dtype(operand), as_dtype(accumulator)) == wanted


def test_integer_sums_wrap() -> None:
    a = np.full((2, 600), 30000, np.int16)
    found = run(product(2, 2, 600, "int16", "int32", tb=True, clear=True), A=a, B=a, C=np.zeros((2, 2), np.int32))["C"]
    assert found[0, 0] == np.int64(30000 * 30000 * 600).astype(np.int32)


def test_a_narrow_accumulator_is_rounded_once() -> None:
    """1 + 4096 small terms: kept in float16 they would be lost one by one."""
    a, b = np.full((1, 4096), 2.0**-12, np.float16), np.ones((4096, 1), np.float16)
    found = run(product(1, 1, 4096, "float16", "float16"), A=a, B=b, C=np.zeros((1, 1), np.float16))["C"]
    assert found[0, 0] == 4


def test_random_floats() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((33, 50)).astype(ml_dtypes.bfloat16), rng.standard_normal((50, 20)).astype(ml_dtypes.bfloat16)
    found = run(product(33, 20, 50, "bfloat16", "float32"), 1e-5, A=a, B=b, C=np.zeros((33, 20), np.float32))["C"]
    assert_same(found, (exact(a, b) + 3).astype(np.float32), 1e-5)


@pytest.mark.parametrize("clear", [True, False])
def test_clearing(clear: bool) -> None:
    a, b = integers((9, 7)), integers((7, 5), seed=1)
    for accumulator in ("float32", "float16"):
        found = run(
            product(9, 5, 7, "float32" if accumulator == "float32" else "float16", accumulator, clear=clear),
            A=a.astype(accumulator),
            B=b.astype(accumulator),
            C=np.zeros((9, 5), accumulator),
        )["C"]
        np.testing.assert_array_equal(found, exact(a, b) + (0 if clear else 3))


def test_clearing_is_decided_when_the_kernel_runs() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((8, 12), "float32"), B: T.Tensor((12, 4), "float32"), C: T.Tensor((4, 8, 4), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((8, 12), "float32"), T.alloc_shared((12, 4), "float32"), T.alloc_fragment((8, 4), "float32")
            T.copy(A, a)
            T.copy(B, b)
            for i in T.serial(4):
                T.gemm(a, b, c, clear_accum=i % 2 == 0)
                T.copy(c, C[i, :, :])

    a, b = integers((8, 12)), integers((12, 4), seed=1)
    found = run(kernel, A=a, B=b, C=np.zeros((4, 8, 4), np.float32))["C"]
    np.testing.assert_array_equal(found, exact(a, b) * np.array([1, 2, 1, 2])[:, None, None])


def test_regions_and_leading_axes() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((3, 16, 24), "float32"), B: T.Tensor((2, 24, 16), "float16"), C: T.Tensor((4, 20, 12), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((3, 16, 24), "float32"), T.alloc_shared((2, 24, 16), "float32"), T.alloc_fragment((4, 20, 12), "float32")
            T.copy(A, a)
            T.copy(B, b)
            T.clear(c)
            for i in T.serial(3):
                for k in T.serial(2):
                    T.gemm(a[i, 2:12, k * 12 : (k + 1) * 12], b[1, k * 12 : k * 12 + 12, 3:11], c[i + 1, 5:15, 4:12])
            T.copy(c, C)

    a, b = integers((3, 16, 24)), integers((2, 24, 16), np.float16, seed=1)
    wanted = np.zeros((4, 20, 12))
    for i in range(3):
        wanted[i + 1, 5:15, 4:12] = exact(a[i, 2:12], b[1, :, 3:11])
    np.testing.assert_array_equal(run(kernel, A=a, B=b, C=np.zeros((4, 20, 12), np.float32))["C"], wanted)


def test_a_chain_of_products() -> None:
    """The accumulator of one is, converted, the operand of the next: as in attention."""

    @T.prim_func
    def kernel(A: T.Tensor((10, 14), "float16"), B: T.Tensor((12, 14), "float16"), D: T.Tensor((12, 6), "float16"), C: T.Tensor((10, 6), "float32")):
        with T.Kernel(1):
            a, b, d = T.alloc_shared((10, 14), "float16"), T.alloc_shared((12, 14), "float16"), T.alloc_shared((12, 6), "float16")
            s, p, c = T.alloc_fragment((10, 12), "float32"), T.alloc_fragment((10, 12), "float16"), T.alloc_fragment((10, 6), "float32")
            T.copy(A, a)
            T.copy(B, b)
            T.copy(D, d)
            T.gemm(a, b, s, transpose_B=True, clear_accum=True, policy=T.GemmWarpPolicy.FullRow)
            for i, j in T.Parallel(10, 12):
                p[i, j] = s[i, j] / 4
            T.gemm(p, d, c, clear_accum=True)
            T.copy(c, C)

    a, b, d = integers((10, 14), np.float16), integers((12, 14), np.float16, seed=1), integers((12, 6), np.float16, seed=2)
    found = run(kernel, A=a, B=b, D=d, C=np.zeros((10, 6), np.float32))["C"]
    np.testing.assert_array_equal(found, exact(exact(a, b, tb=True) / 4, d))


def test_the_same_tile_twice() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9, 9), "float32"), C: T.Tensor((9, 9), "float32")):
        with T.Kernel(1):
            a, c = T.alloc_shared((9, 9), "float32"), T.alloc_fragment((9, 9), "float32")
            T.copy(A, a)
            T.clear(c)
            T.gemm(a, a, c)
            T.gemm(a, a, c, transpose_B=True)
            T.gemm(a, a, c, transpose_A=True)
            T.copy(c, C)

    a = integers((9, 9))
    np.testing.assert_array_equal(run(kernel, A=a, C=np.zeros((9, 9), np.float32))["C"], exact(a, a) + exact(a, a, tb=True) + exact(a, a, ta=True))


def refuse(kind: Kind, a: Any, b: Any, c: Any, dtypes: tuple[str, str, str] = ("float32",) * 3, **options: Any) -> None:
    with refused(kind):

        @T.prim_func
        def kernel(n: T.int32):
            with T.Kernel(1):
                T.gemm(T.alloc_shared(a, dtypes[0]), T.alloc_shared(b, dtypes[1]), T.alloc_fragment(c, dtypes[2]), **options)


def test_sizes_that_do_not_fit() -> None:
    refuse(Kind.GEMM_K_MISMATCH, (4, 5), (6, 7), (4, 7))
    refuse(Kind.GEMM_K_MISMATCH, (4, 5), (7, 5), (4, 7))
    refuse(Kind.GEMM_M_MISMATCH, (4, 5), (5, 7), (3, 7))
    refuse(Kind.GEMM_N_MISMATCH, (4, 5), (5, 7), (4, 6))
    refuse(Kind.GEMM_RANK, (4,), (4, 7), (4, 7))
    refuse(Kind.GEMM_BATCH, (2, 4, 5), (5, 7), (4, 7))


def test_dtypes_that_do_not_fit() -> None:
    refuse(Kind.GEMM_DTYPE, (4, 5), (5, 7), (4, 7), ("float32", "float16", "float32"))
    refuse(Kind.GEMM_DTYPE, (4, 5), (5, 7), (4, 7), ("int8", "int8", "float32"))
    refuse(Kind.GEMM_DTYPE, (4, 5), (5, 7), (4, 7), ("float16", "float16", "int32"))
    refuse(Kind.GEMM_DTYPE, (4, 5), (5, 7), (4, 7), ("int8", "int8", "int16"))
    refuse(Kind.GEMM_DTYPE, (4, 5), (5, 7), (4, 7), ("bool", "bool", "int32"))
    refuse(Kind.OPTION_VALUE, (4, 5), (5, 7), (4, 7), policy="square")


def test_operands_that_are_no_tiles() -> None:
    with refused(Kind.SCOPE, "A is a global tensor", "T.alloc_shared"):

        @T.prim_func
        def tensors(A: T.Tensor((8, 8), "float32")):
            with T.Kernel(1):
                T.gemm(A, A, T.alloc_fragment((8, 8), "float32"))

    with refused(Kind.GEMM_ALIAS):

        @T.prim_func
        def in_place(A: T.Tensor((8, 8), "float32")):
            with T.Kernel(1):
                a = T.alloc_shared((8, 8), "float32")
                T.gemm(a, a, a)

    with refused(Kind.GEMM_SHAPE_STATIC):

        @T.prim_func
        def dynamic(n: T.int32):
            with T.Kernel(1):
                a = T.alloc_shared((8, 8), "float32")
                T.gemm(a[0:n, :], a, T.alloc_fragment((8, 8), "float32"))

    with refused(Kind.GEMM_RANK):

        @T.prim_func
        def element(n: T.int32):
            with T.Kernel(1):
                a = T.alloc_shared((8, 8), "float32")
                T.gemm(a[0, 0], a, T.alloc_fragment((8, 8), "float32"))
