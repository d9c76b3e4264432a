"""Expressions: identity, folding of identities, promotion, conditions, selection, conversion, and the diagnostics of misuse."""

from __future__ import annotations

import gc
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.execution import refused
from tests.ir.test_constants import run
from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype, promote
from tilewright.errors import Kind, Span
from tilewright.ir import expr
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import (
    Expr,
    Op,
    Rounding,
    as_condition,
    as_expr,
    binary,
    call,
    cast,
    ceildiv,
    const,
    load,
    logical,
    maximum,
    minimum,
    rebuild,
    select,
    unary,
    var,
)
from tilewright.ir.intrinsic import Intrinsic

X, Y, F, H, B, U = var("x"), var("y"), var("f", dtypes.float32), var("h", dtypes.float16), var("b", dtypes.bool_), var("u", dtypes.uint8)
TILE = Buffer("s", dtypes.float16, (4, 8), Scope.SHARED, Span("kernel.py", 1))


def test_equal_structure_is_one_object() -> None:
    assert X + Y is X + Y and X + Y is not Y + X and (X + 1) * 2 is (X + 1) * 2
    assert const(1) is const(1) and const(1) is not const(1.0) and const(1) is not const(True) and const(1) is not const(1, dtypes.int64)
    assert const(0.0) is not const(-0.0) and const(float("nan")) is const(float("nan"))
    assert load(TILE, (X, Y)) is load(TILE, (X, Y)) and load(TILE, (X, Y)) is not load(TILE, (Y, X))
    assert var("x") is not var("x")
    other = Buffer("s", dtypes.float16, (4, 8), Scope.SHARED, Span("kernel.py", 1))
    assert load(other, (X, Y)) is not load(TILE, (X, Y))
    assert cast(F, dtypes.float16) is cast(F, dtypes.float16) is not cast(F, dtypes.float16, Rounding.UP)


def test_expressions_are_forgotten_with_their_last_user() -> None:
    gc.collect()
    before = len(expr._interned)
    made = [var("t") * k for k in range(2, 200)]
    assert len(expr._interned) >= before + 190
    del made
    gc.collect()
    assert len(expr._interned) <= before + 10


def test_threads_agree_on_identity() -> None:
    """Programs may be compiled in threads at the same time."""
    found: list[list[Expr]] = []
    start = threading.Barrier(4)

    def build() -> None:
        start.wait()
        found.append([(X + k) * (Y + k) for k in range(2000, 2600)])

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(all(a is b for a, b in zip(found[0], other, strict=True)) for other in found[1:])


def test_pickling_finds_the_same_object() -> None:
    assert pickle.loads(pickle.dumps(const(3, dtypes.int64))) is const(3, dtypes.int64)
    with pytest.raises(TypeError):
        pickle.dumps(X)


IDENTITIES: list[tuple[Any, Any]] = [
    (X + 0, X),
    (0 + X, X),
    (X - 0, X),
    (X - X, const(0)),
    (X * 1, X),
    (1 * X, X),
    (X * 0, const(0)),
    (X // 1, X),
    (X % 1, const(0)),
    (X & 0, const(0)),
    (X | 0, X),
    (X ^ 0, X),
    (X << 0, X),
    (X >> 0, X),
    (minimum(X, X), X),
    (maximum(X, X), X),
    (X == X, const(True)),
    (X != X, const(False)),
    (X <= X, const(True)),
    (X < X, const(False)),
    (binary(Op.TRUNCDIV, X, 1), X),
    (binary(Op.TRUNCMOD, X, 1), const(0)),
]


@pytest.mark.parametrize(("made", "wanted"), IDENTITIES)
def test_integer_identities(made: Expr, wanted: Expr) -> None:
    assert made is wanted


def test_floats_have_no_such_identities() -> None:
    """0 * NaN is NaN, -0.0 + 0.0 is 0.0, NaN is not itself."""
    assert (F * 0).op is Op.MUL and (F + 0).op is Op.ADD and (F - F).op is Op.SUB and (F == F).op is Op.EQ


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_identities_keep_the_value(data: st.DataObject) -> None:
    op = data.draw(
        st.sampled_from([Op.ADD, Op.SUB, Op.MUL, Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD, Op.MIN, Op.MAX, Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR])
    )
    dtype = data.draw(st.sampled_from([dtypes.int32, dtypes.int8, dtypes.uint16]))
    v, value, other = var("v", dtype), data.draw(st.integers(-20, 20)), data.draw(st.sampled_from([0, 1, 2, -1]))
    value = np.asarray(value).astype(dtype.numpy)[()]
    sides = [v, const(other, dtype)] if op in (Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD) or data.draw(st.booleans()) else [const(other, dtype), v]
    if other == 0 and op in (Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD):
        return
    second = var("w", dtype)
    unfolded = binary(op, *(second if s.is_const else s for s in sides))
    constant = np.asarray(other).astype(dtype.numpy)[()]
    assert run(binary(op, *sides), {v: value}) == run(unfolded, {v: value, second: constant})


@pytest.mark.parametrize(
    ("left", "right", "wanted"),
    [
        ("float16", "float32", "float32"),
        ("bfloat16", "float16", "float16"),
        ("float16", "int64", "float16"),
        ("int32", "int64", "int64"),
        ("int32", "uint32", "uint32"),
        ("int64", "uint32", "int64"),
        ("bool", "int8", "int8"),
        ("bool", "float16", "float16"),
        ("float8_e4m3fn", "int32", "float8_e4m3fn"),
        ("float64", "float32", "float64"),
    ],
)
def test_promotion(left: str, right: str, wanted: str) -> None:
    a, b = var("a", as_dtype(left)), var("b", as_dtype(right))
    for made in (a + b, b + a, minimum(a, b), select(X > 0, a, b), select(X > 0, b, a)):
        assert made.dtype == wanted
    assert (a < b).dtype == "bool" and (a < b).args[0].dtype == wanted


def test_python_numbers_are_int32_and_float32() -> None:
    assert (H + 1.0).dtype == "float32" and (H + 1).dtype == "float16" and (U + 1).dtype == "int32" and const(1 << 40).dtype == "int64"
    assert const(1 << 63).dtype == "uint64" and const(np.float16(2)).dtype == "float16" and const(np.int8(3)).value == 3
    assert as_expr(2, dtypes.float16).value == 2.0


def test_numbers_that_no_dtype_holds() -> None:
    for value in (1 << 64, -(1 << 63) - 1):
        with refused(Kind.VALUE_RANGE):
            X + value


def test_bools_count_in_arithmetic_and_combine_in_logic() -> None:
    assert (B + B).dtype == "int32" and (B & B).dtype == "bool" and (B & (X > 0)).op is Op.AND and (B | (X > 0)).op is Op.OR and (B ^ (X > 0)).dtype == "bool"
    assert (-B).dtype == "int32" and (~B).op is Op.NOT and (~X).op is Op.BIT_NOT and (~~B) is B


def test_conditions() -> None:
    assert as_condition(B) is B and str(as_condition(X)) == "x != 0" and as_condition(F).dtype == "bool"
    assert (
        logical(Op.AND, B, True) is B and logical(Op.AND, False, B).value is False and logical(Op.OR, B, True).value is True and logical(Op.OR, False, B) is B
    )
    assert logical(Op.AND, B, B) is B and unary(Op.NOT, True).value is False


def test_selection() -> None:
    assert select(True, X, Y) is X and select(False, X, Y) is Y and select(B, X, X) is X
    assert select(B, X, Y).op is Op.SELECT and select(B, X, Y, is_lazy=True).op is Op.IF_THEN_ELSE
    assert select(B, X, 1.5).dtype == "float32"


@settings(max_examples=40, deadline=None)
@given(st.integers(-1000, 1000), st.integers(-40, 40).filter(bool))
def test_quotients_rounded_up(a: int, b: int) -> None:
    assert ceildiv(a, b) == -(-a // b)
    if b > 0:
        assert run(ceildiv(X, b), {X: a}) == ceildiv(a, b) and run(ceildiv(a, Y), {Y: b}) == ceildiv(a, b)


def test_absolute_values() -> None:
    for value in (-5, 0, 7):
        assert run(abs(X), {X: value}) == abs(value) and run(abs(F), {F: value}) == abs(value)
    assert run(abs(F), {F: -0.0}) == 0


def test_casts() -> None:
    assert cast(X, dtypes.int32) is X and cast(F, dtypes.bool_).op is Op.NE
    assert X.astype("float16").dtype == "float16" and X.astype(float).dtype == "float32"
    wide = cast(F, as_dtype("float32x4"))
    assert wide.dtype.lanes == 4 and wide.args[0] is F
    with refused(Kind.CAST_DTYPE):
        var("v", as_dtype("float32x4")).astype("float32")
    with refused(Kind.CAST_DTYPE):
        var("p", dtypes.handle).astype("float32")


def test_vectors_meet_scalars_lane_by_lane() -> None:
    pair, wide = var("p", as_dtype("float16x2")), var("w", as_dtype("float32x2"))
    assert (pair + H).dtype == "float16x2" and (pair + F).dtype == "float32x2" and (pair * wide).dtype == "float32x2" and (F / pair).dtype == "float32x2"
    assert select(B, pair, F).dtype == "float32x2" and select(B, H, pair).dtype == "float16x2" and (2.0 / pair).dtype == "float32x2"
    with refused(Kind.OPERAND):
        pair + var("q", as_dtype("float16x4"))


def test_bits_reinterpreted() -> None:
    made = expr.reinterpret(F, dtypes.uint32)
    assert made.dtype == "uint32" and run(made, {F: 1.0}) == 0x3F800000 and expr.reinterpret(X, dtypes.int32) is X
    with refused(Kind.VIEW_SIZE):
        expr.reinterpret(F, dtypes.uint16)


def test_calls() -> None:
    pure = Intrinsic("twice", 1, lambda kinds: kinds[0], lambda x: 2 * x)
    impure = Intrinsic("next", 0, lambda kinds: dtypes.int32, lambda: 0, is_pure=False)
    assert call(pure, X) is call(pure, X) and call(impure) is not call(impure)
    assert run(call(pure, X), {X: 21}) == 42


@pytest.mark.parametrize(
    "node",
    [
        X + Y,
        X - Y,
        -X,
        ~X,
        X < Y,
        select(X > 0, X, Y),
        select(X > 0, X, Y, is_lazy=True),
        F / 3.0,
        cast(F, dtypes.int8),
        logical(Op.OR, X > 0, Y > 1),
        unary(Op.NOT, X > 0),
        load(TILE, (X, Y)),
        expr.reinterpret(F, dtypes.int32),
        minimum(X, Y),
        X << 2,
    ],
)
def test_rebuilding(node: Expr) -> None:
    assert rebuild(node, node.args) is node
    fresh = tuple(var("z", a.dtype) if not a.is_const else a for a in node.args)
    made = rebuild(node, fresh)
    assert made.op is node.op and made.dtype == node.dtype and made.args == fresh


def test_rebuilding_folds_again() -> None:
    assert rebuild(X + Y, (X, const(0))) is X and rebuild(X * Y, (const(3), const(4))).value == 12
    assert rebuild(X, ()) is X


def test_numpy_scalars_on_the_left() -> None:
    assert np.float32(2) * F is 2.0 * F and np.int32(2) - X is 2 - X and (np.float16(1) / H).op is Op.DIV and (np.int64(1) < X).dtype == "bool"
    with refused(Kind.EXPRESSION_AS_NUMBER, "numpy's sqrt"):
        np.sqrt(F)
    with refused(Kind.EXPRESSION_AS_NUMBER):
        np.arange(4) + X


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (Kind.POWER_OPERATOR, lambda: X**2),
        (Kind.POWER_OPERATOR, lambda: 2**X),
        (Kind.EXPRESSION_CONDITION, lambda: bool(X > 0)),
        (Kind.EXPRESSION_AS_NUMBER, lambda: int(X)),
        (Kind.EXPRESSION_AS_NUMBER, lambda: list(X)),
        (Kind.EXPRESSION_AS_NUMBER, lambda: range(X)),
        (Kind.EXPRESSION_AS_NUMBER, lambda: float(F)),
        (Kind.INDEX_COUNT, lambda: X[0]),
        (Kind.STORE_CONSTANT, lambda: X.__setitem__(0, 1)),
        (Kind.INTEGER_DIVISION, lambda: X / 2),
        (Kind.DIVISION_BY_ZERO, lambda: X // 0),
        (Kind.DIVISION_BY_ZERO, lambda: X % 0),
        (Kind.DIVISION_BY_ZERO, lambda: ceildiv(X, 0)),
        (Kind.OPERAND, lambda: X << 32),
        (Kind.OPERAND, lambda: F & 1),
        (Kind.OPERAND, lambda: ~F),
        (Kind.OPERAND, lambda: X + None),
        (Kind.OPERAND, lambda: X + "a"),
        (Kind.OPERAND, lambda: X + [1]),
        (Kind.OPERAND, lambda: ceildiv(F, 2)),
        (Kind.BUFFER_OPERATOR, lambda: X @ Y),
        (Kind.DTYPE_NAME, lambda: X.astype("flot16")),
    ],
)
def test_misuse(kind: Kind, use: Any) -> None:
    with refused(kind):
        use()


def test_queries() -> None:
    assert const(3).value == 3 and X.name == "x" and load(TILE, (X, Y)).buffer is TILE
    with pytest.raises(ValueError):
        _ = X.value


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([d for d in dtypes.SCALAR_DTYPES if not d.is_bool and d != "handle"]),
    st.sampled_from([d for d in dtypes.SCALAR_DTYPES if not d.is_bool and d != "handle"]),
)
def test_promotion_is_symmetric_and_absorbing(a: DType, b: DType) -> None:
    common = promote(a, b)
    assert common is promote(b, a) and common in (a, b) and promote(common, a) is common and promote(common, b) is common


def test_deep_expressions() -> None:
    """Sums unrolled in Python are as deep as they are long."""
    total: Any = X
    for k in range(3000):
        total = total + load(TILE, (const(k % 4), X))
    assert run(X * 2 + 1, {X: 4}) == 9 and total.dtype == "float16"
