"""Terms: operators write the instructions they look like."""

from __future__ import annotations

import numpy as np
import pytest

from tests.codegen.llvm.elementwise import Elementwise
from tests.codegen.llvm.math.accuracy import FEATURE_SETS
from tilewright.codegen.llvm.emitter import Function, Module, Value
from tilewright.codegen.llvm.term import Scope, Term, rarely, through_double
from tilewright.target.cpu import AVX2, Feature


def run(element: str, expression, *arrays: np.ndarray, features: frozenset[Feature] = frozenset(), lanes: int = 4) -> np.ndarray:
    kernels = Elementwise()
    kernels.add("k", [element] * len(arrays), element, lanes, lambda f, *values: expression(*map(Scope(f, features), values)).value)
    kernels.compile()
    return kernels("k", *arrays, output=arrays[0].dtype)


X = np.array([1.5, -2.0, 0.0, -0.0, 7.25, np.nan, np.inf, -3.0], np.float32)
Y = np.array([2.0, 0.5, -1.0, 1.0, -7.25, 1.0, 2.0, -3.0], np.float32)


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize(
    "expression",
    [
        lambda x, y: x + y,
        lambda x, y: 2.0 - x * y,
        lambda x, y: x / y,
        lambda x, y: 1.0 / y,
        lambda x, y: 3.0 * x + (-y),
        lambda x, y: 1.0 + y,
    ],
    ids=range(6),
)
def test_float_operators_are_those_of_numpy(expression, lanes: int) -> None:
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(run("float", expression, X, Y, lanes=lanes), expression(X, Y))


@pytest.mark.parametrize(
    "expression",
    [
        lambda x, y: x + y * 3,
        lambda x, y: (x & y) | 5,
        lambda x, y: ~x ^ y,
        lambda x, y: x << 3,
        lambda x, y: x >> 2,
        lambda x, y: 7 - x,
        lambda x, y: -x,
    ],
    ids=range(7),
)
def test_integer_operators_are_those_of_numpy(expression) -> None:
    x, y = np.random.default_rng(0).integers(-(2**31), 2**31, (2, 64)).astype(np.int32)
    assert np.array_equal(run("i32", expression, x, y), expression(x, y))


def test_logical_shift_brings_in_zeros() -> None:
    x = np.array([-1, 16, -16, 0], np.int32)
    assert run("i32", lambda t: t.shift_right_logical(4), x).tolist() == [0x0FFFFFFF, 1, 0x0FFFFFFF, 0]


def test_comparisons_are_false_for_nan_except_differs() -> None:
    def count(x: Term, y: Term) -> Term:
        tests = [x < y, x <= y, x > y, x >= y, x.equals(y), x.differs(y), x.is_nan()]
        total = x.operand(0.0)
        for i, test in enumerate(tests):
            total = total + test.select(x.operand(2.0**i), 0.0)
        return total

    want = sum(t.astype(int) << i for i, t in enumerate((X < Y, X <= Y, X > Y, X >= Y, X == Y, X != Y, np.isnan(X))))
    assert run("float", count, X, Y).tolist() == want.tolist()


def test_clamp_keeps_nan() -> None:
    np.testing.assert_array_equal(run("float", lambda x, y: x.clamp(-2.5, 2.5), X, Y), np.clip(X, -2.5, 2.5))


def test_signs() -> None:
    got = run("float", lambda x, y: x.abs().with_sign_of(y), X, Y)
    np.testing.assert_array_equal(got, np.copysign(X, Y))
    assert np.array_equal(np.signbit(got), np.signbit(Y))


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_polynomial_takes_the_constant_first(features: frozenset[Feature]) -> None:
    x = np.arange(-4, 4, dtype=np.float32)
    assert run("float", lambda t: t.polynomial((1.0, -2.0, 0.5, 3.0)), x, features=features).tolist() == (1 - 2 * x + 0.5 * x**2 + 3 * x**3).tolist()


def test_mad_is_one_instruction_only_where_the_target_has_it() -> None:
    for features, is_fused in ((AVX2.features, True), (frozenset(), False)):
        f = Module().function("k", "void", [("float", "x")])
        x = Scope(f, features)(f.arguments["x"])
        x.mad(x, 1.0)
        assert ("llvm.fma" in f.module.text()) == is_fused


def test_bits_and_back() -> None:
    assert run("float", lambda x: (x.bits() ^ -(2**31)).as_float(), X[:2]).tolist() == [-1.5, 2.0]
    assert run("double", lambda x: x.sqrt().bits().as_float(), np.array([4.0, 9.0])).tolist() == [2.0, 3.0]


def test_through_double_rounds_at_the_end_only() -> None:
    x = np.array([1e30, 3.0], np.float32)
    assert np.array_equal(run("float", through_double(lambda t: (t * t) / (t * 1e10)), x), (x.astype(float) / 1e10).astype(np.float32))


@pytest.mark.parametrize("lanes", [1, 4])
def test_rarely_takes_its_path_only_where_some_lane_asks(lanes: int) -> None:
    def body(f: Function, value: Value) -> Value:
        x = Scope(f, frozenset())(value)
        return rarely(x > 10.0, [x + 1.0], lambda: [(x > 10.0).select(x * 0.0, x - 1.0)])[0].value

    kernels = Elementwise()
    kernels.add("k", ["float"], "float", lanes, body)
    kernels.compile()
    x = np.array([1, 2, 3, 4, 1, 20, 3, 4], np.float32)
    got = kernels("k", x, output=x.dtype).tolist()
    assert got == ([2, 3, 4, 5, 0, 0, 2, 3] if lanes == 4 else [2, 3, 4, 5, 2, 0, 4, 5])
