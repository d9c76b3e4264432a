"""Scalar functions of the language against numpy and Python: selection, integers, conversions, bits, rounding, and mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright.language as T
from tests.execution import refused, run
from tilewright import dtypes
from tilewright.errors import Kind
from tilewright.ir.expr import Expr

Array = np.ndarray[Any, Any]


def apply(function: Callable[..., Any], *operands: Array, dtype: str | None = None) -> Array:
    """`function` of every element, compiled and by the reference; the results have the dtype of the first operand, or `dtype`."""
    count, out = len(operands[0]), dtype or T.dtype(operands[0].dtype)
    given = [*operands, operands[0]][:2]

    @T.prim_func
    def main(A: T.Tensor((count,), given[0].dtype), B: T.Tensor((count,), given[1].dtype), C: T.Tensor((count,), out)):
        with T.Kernel(1):
            for i in T.Parallel(count):
                C[i] = function(A[i], B[i]) if len(operands) == 2 else function(A[i])

    return run(main, tolerance=1e-6, A=given[0], B=given[1], C=np.zeros(count, T.dtype(out).numpy))["C"]


INTEGERS = np.array([-7, -3, -1, 0, 1, 2, 5, 2**31 - 1, -(2**31)], np.int32)
DIVISORS = np.array([2, -2, 3, 5, -4, 3, -3, 7, 3], np.int32)
FLOATS = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.49, -7.75], np.float32)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (T.floordiv, lambda a, b: a // b),
        (T.floormod, lambda a, b: a % b),
        (T.truncdiv, lambda a, b: math.trunc(a / b)),
        (T.truncmod, lambda a, b: int(math.fmod(a, b))),
        (T.ceildiv, lambda a, b: -(-a // b)),
        (T.max, max),
        (T.min, min),
        (T.bitwise_and, lambda a, b: a & b),
        (T.bitwise_or, lambda a, b: a | b),
        (T.bitwise_xor, lambda a, b: a ^ b),
    ],
)
def test_integers(function: Any, expected: Callable[[int, int], int]) -> None:
    if function is T.ceildiv:  # of tiles: the divisor is a constant, or positive
        for divisor in (-3, -1, 2, 7):
            assert apply(lambda x, divisor=divisor: T.ceildiv(x, divisor), INTEGERS[:7]).tolist() == [-(-int(x) // divisor) for x in INTEGERS[:7]]
    a, b = (INTEGERS, DIVISORS) if function is not T.ceildiv else (INTEGERS[:7], abs(DIVISORS[:7]))
    assert apply(function, a, b).tolist() == [expected(int(x), int(y)) for x, y in zip(a, b, strict=True)]


def test_python_numbers_stay_python_numbers() -> None:
    assert (T.ceildiv(7, 2), T.cdiv(8, 2), T.max(3, 5), T.min(2.5, 1), T.align_up(13, 8), T.floordiv(-7, 2), T.floormod(-7, 2)) == (4, 4, 5, 1, 16, -4, 1)
    assert T.if_then_else(True, "a", "b") == "a" and T.index_to_coordinates(17, (2, 3, 4)) == [1, 1, 1] and T.abs(-3) == 3
    assert isinstance(T.max(3, T.int32(5)), Expr)


@pytest.mark.parametrize("condition", [True, False])
def test_a_selection_that_python_decides_has_the_dtype_of_one_that_the_kernel_decides(condition: bool) -> None:
    unknown = T.dynamic("n") > 0
    for a, b in ((T.float16(1), -2.0), (3, T.float32(1)), (T.int8(1), T.uint16(2)), (T.float32(1), T.float64(2))):
        found = T.if_then_else(condition, a, b)
        assert isinstance(found, Expr) and found.dtype == T.if_then_else(unknown, a, b).dtype and found.astype("bfloat16").dtype == dtypes.bfloat16
    assert isinstance(T.if_then_else(condition, 1, 2), int)


def test_selection_protects_what_is_not_taken() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "float32"), B: T.Tensor((8,), "float32")):
        with T.Kernel(1):
            held = T.alloc_shared((4,), "float32")
            T.copy(A, held)
            for i in T.Parallel(8):
                B[i] = T.if_then_else(i < 4, held[i], -1.0) + T.Select(i % 2 == 0, 10.0, 20.0)

    a = np.arange(4, dtype=np.float32)
    assert run(main, A=a, B=np.zeros(8, np.float32))["B"].tolist() == [10, 21, 12, 23, 9, 19, 9, 19]


def test_clamp_and_limits() -> None:
    assert apply(lambda x: T.clamp(x, -1.0, 2.0), FLOATS).tolist() == np.clip(FLOATS, -1, 2).tolist()
    assert (T.max_value("int8").value, T.min_value("int8").value, T.max_value("float16").value) == (127, -128, 65504)
    assert T.infinity("float32").value == np.inf and T.infinity("float8_e5m2").dtype == "float8_e5m2"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (T.floor, np.floor),
        (T.ceil, np.ceil),
        (T.trunc, np.trunc),
        (T.nearbyint, np.rint),
        (T.round, np.rint),
        (lambda x: T.round(x, "ties-away-from-zero"), lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5)),
        (T.abs, np.abs),
        (T.fast_rcp, lambda x: np.float32(1) / x),
        (lambda x: T.ldexp(x, 3), lambda x: x * 8),
    ],
)
def test_floats(function: Any, expected: Any) -> None:
    np.testing.assert_allclose(apply(function, FLOATS), expected(FLOATS), rtol=1e-6)


def test_whole_numbers_are_left_alone_by_rounding() -> None:
    assert apply(T.floor, INTEGERS).tolist() == INTEGERS.tolist() and apply(T.round, INTEGERS).tolist() == INTEGERS.tolist()


def test_bits() -> None:
    words = np.array([0, 1, 0x80000000, 0xFFFFFFFF, 0x00F0], np.uint32)
    assert apply(T.popcount, words, dtype="int32").tolist() == [bin(w).count("1") for w in words]
    assert apply(T.clz, words, dtype="int32").tolist() == [32 - int(w).bit_length() for w in words]
    assert apply(lambda x: T.reinterpret(x, "float32"), np.array([0x3F800000], np.uint32), dtype="float32").tolist() == [1.0]
    assert apply(lambda x: T.reinterpret("uint32", x), np.array([-2.0], np.float32), dtype="uint32").tolist() == [0xC0000000]
    assert apply(lambda x: T.shift_left(x, 2), INTEGERS[:7]).tolist() == (INTEGERS[:7] << 2).tolist()
    assert apply(T.bitwise_not, INTEGERS).tolist() == (~INTEGERS).tolist()


def test_conversions() -> None:
    values = np.array([0.1, 1e5, -448.5, 3.9], np.float32)
    assert apply(lambda x: T.cast(x, "int32"), values, dtype="int32").tolist() == [0, 100000, -448, 3]
    assert apply(lambda x: T.Cast("float16", x), values, dtype="float16").tolist()[2:] == [-448.5, float(np.float16(3.9))]
    assert apply(lambda x: T.cast(x, "float8_e4m3fn", sat=True).astype("float32"), values).tolist()[1:3] == [448, -448]
    assert np.isinf(apply(lambda x: T.cast(x, "float16"), values, dtype="float16")[1])
    down = apply(lambda x: T.cast(x, "bfloat16", round="rd").astype("float32"), np.array([1.001, -1.001], np.float32))
    assert down[0] == 1 and down[1] == np.float32(ml_dtypes.bfloat16(-1.0078125))


def test_rounding_modes_of_ieee_operations() -> None:
    third = np.array([3.0], np.float32)
    low, near, high = (float(apply(lambda x, mode=mode: T.ieee_frcp(x, mode), third)[0]) for mode in ("rd", "rn", "ru"))
    assert low <= near <= high and np.nextafter(np.float32(low), np.float32(1)) == np.float32(high)


def test_votes_over_tiles() -> None:
    @T.prim_func
    def main(A: T.Tensor((3, 8), "int32"), B: T.Tensor((3, 2), "int32")):
        with T.Kernel(3) as bx:
            tile = T.alloc_shared((2, 8), "int32")
            T.copy(A[bx, 0:8], tile[0, 0:8])
            T.fill(tile[1, 0:8], 1)
            B[bx, 0] = T.cast(T.any_of(tile[0, 0:4]), "int32")
            B[bx, 1] = T.cast(T.all_of(tile), "int32")

    a = np.array([[0] * 8, [1] * 8, [0, 0, 1, 0, 1, 1, 1, 1]], np.int32)
    assert run(main, A=a, B=np.zeros((3, 2), np.int32))["B"].tolist() == [[0, 0], [1, 1], [1, 0]]


@pytest.mark.parametrize(
    ("kind", "make", "part"),
    [
        (Kind.MISSING_ARGUMENT, lambda x: T.pow(x), "T.pow takes 2 arguments, but got 1"),
        (Kind.ROUNDING_MODE, lambda x: T.round(x, "up"), "there is no rounding mode 'up'"),
        (Kind.ROUNDING_MODE, lambda x: T.cast(x, "float16", round="up"), "there is no rounding mode 'up'"),
        (Kind.ROUNDING_MODE, lambda x: T.ieee_add(T.cast(x, "float16"), T.cast(x, "float16"), "ru"), "T.ieee_add of float16"),
        (Kind.MATH_DTYPE, lambda x: T.popcount(x), "bits are counted in integers"),
        (Kind.MATH_DTYPE, lambda x: T.ldexp(x, x), "the exponent of T.ldexp"),
        (Kind.OPERAND_KIND, lambda x: T.isnullptr(x), "only a T.ptr parameter is an address"),
        (Kind.VIEW_SIZE, lambda x: T.reinterpret(x, "float64"), "float32 has 32 bits, float64 has 64"),
    ],
)
def test_mistakes(kind: Kind, make: Any, part: str) -> None:
    with refused(kind, part):
        apply(make, FLOATS)
