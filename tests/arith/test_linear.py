"""The normal form: equal values give equal forms, and expressions come back with the same value."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from tilewright import dtypes
from tilewright.arith.linear import Linearizer, contains, from_expr
from tilewright.ir import expr as ir
from tilewright.ir.expr import Op, const, var

i, j, x, n = (var(name) for name in "ijxn")


@pytest.mark.parametrize("is_expanding", [False, True])
def test_forms_keep_the_value_of_random_expressions(generator: Any, is_expanding: bool) -> None:
    for seed in range(500):
        made = generator(seed)
        expr = made.integer(1 + seed % 4)
        back = Linearizer(is_expanding=is_expanding).form(expr).to_expr(expr.dtype)
        points = made.domain.points()
        assert np.array_equal(made.domain.evaluate(expr, points), made.domain.evaluate(back, points)), (str(expr), str(back))


def test_to_expr_is_stable_under_another_round() -> None:
    linearizer = Linearizer(is_expanding=False)
    for expr in ((i - j) * 64 + x, 3 - i, -i - j, i * -2 + 5, (i + j) * (x + 1) + 7, -(i // 4) * 2, const(4) + 0 * i):
        once = linearizer.form(expr).to_expr()
        assert linearizer.form(once).to_expr() is once


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (i + j, j + i),
        ((i + j) // 4, (j + i) // 4),
        (i * 4 // 8, i // 2),
        ((i * 8 + j) // 4, i * 2 + j // 4),
        ((i + 9) // 4, (i + 1) // 4 + 2),
        (i // 4 // 8, i // 32),
        ((i // 4 + 3) // 2, (i + 12) // 8),
        (i % 32 // 4, i // 4 % 8),
        (i % 32 % 8, i % 8),
        ((i * 6 + 2) % 4, (i * 2 + 2) % 4),
        (i * 4 % 8, i % 2 * 4),
        (i // -4, (-i) // 4),
        (i % -4, -((-i) % 4)),
        (i // 4 * 4 + i % 4, i),
        (i // 4 % 8 * 4 + i % 4, i % 32),
        (i - i // 4 * 4, i % 4),
        ((i + j + 5) // 4 * 4 + (i + j + 5) % 4, i + j + 5),
        (i >> 3, i // 8),
        (i & 7, i % 8),
        (i << 2, i * 4),
        (ir.minimum(i + 3, j + 3), ir.minimum(j, i) + 3),
        (ir.minimum(i + 3, i + 5), i + 3),
        (ir.maximum(i * 4 + x, j) - i * 4, ir.maximum(x, j - i * 4)),
        ((i + 1) * (j + 2), i * j + j + i * 2 + 2),
        (n * i * j, j * n * i),
        (ir.cast(i, dtypes.int64) * 4, ir.cast(i * 4, dtypes.int64)),
    ],
)
def test_equal_values_have_equal_forms(left: ir.Expr, right: ir.Expr) -> None:
    linearizer = Linearizer(is_expanding=True)
    assert linearizer.form(left) == linearizer.form(right)


@pytest.mark.parametrize(("k", "a", "c"), list(product([1, 2, 3, 4, 6, 8, -3, -4], [-9, -4, -1, 1, 2, 5, 6, 12], [-7, 0, 3, 8])))
def test_quotients_and_remainders_by_constants_are_exact(k: int, a: int, c: int, domain: Any) -> None:
    here = domain(None, {i: range(-7, 8), j: range(-3, 4)})
    points = here.points()
    for expr in ((i * a + j * 2 + c) // k, (i * a + j * 2 + c) % k, (i * a + c) // 2 // abs(k), (i * a + c) % (k * 3) // k, (i * a + j) % (k * 2) % k):
        assert np.array_equal(here.evaluate(expr, points), here.evaluate(from_expr(expr).to_expr(), points)), str(expr)


def test_terms_stand_in_the_order_of_first_appearance() -> None:
    assert str(from_expr(x + i * 3 - j + i).to_expr()) == "x + i * 4 - j"
    assert str(from_expr(-x + i).to_expr()) == "i - x"
    assert str(from_expr((x - i) * 8 + j + 3).to_expr()) == "(x - i) * 8 + j + 3"
    assert str(from_expr(5 - i).to_expr()) == "5 - i"


def test_narrow_and_unsigned_arithmetic_is_opaque_because_it_wraps() -> None:
    small = var("small", dtypes.int8)
    total = ir.cast(small + small, dtypes.int32)
    assert list(from_expr(total).terms) == [small + small]
    word = var("word", dtypes.uint32)
    assert list(from_expr(ir.cast(word - 1, dtypes.int64)).terms) == [word - 1]


def test_narrowing_casts_are_opaque() -> None:
    wide = var("wide", dtypes.int64)
    narrow = ir.cast(wide, dtypes.int32)
    assert list(from_expr(narrow + 1).terms) == [narrow]


def test_int64_forms_widen_before_they_multiply() -> None:
    offset = from_expr(ir.cast(i, dtypes.int64) * 4096 + ir.cast(j, dtypes.int64)).to_expr(dtypes.int64)
    assert all(node.dtype == dtypes.int64 for node in (offset, *offset.args))
    product = offset.args[0]
    assert product.op is Op.MUL and product.args[0].dtype == dtypes.int64


def test_split_gives_the_coefficient_and_the_rest() -> None:
    linearizer = Linearizer(is_expanding=True)
    coefficient, rest = linearizer.split(linearizer.form((x * 64 + i) * n + i * 3 + j // 2), i)
    assert coefficient == linearizer.form(n + 3)
    assert rest == linearizer.form(x * 64 * n + j // 2)
    assert not contains(rest.to_expr(), i)


@pytest.mark.parametrize("expr", [i * i, i // 4 + i, ir.minimum(i, j), i * n * i])
def test_split_refuses_what_is_not_affine(expr: ir.Expr) -> None:
    linearizer = Linearizer(is_expanding=True)
    assert linearizer.split(linearizer.form(expr), i) is None


def test_substitution_reaches_into_atoms() -> None:
    linearizer = Linearizer(is_expanding=True)
    form = linearizer.form(i + i // 4 * n)
    assert linearizer.substitute(form, {i: j * 4}) == linearizer.form(j * 4 + j * n)


def test_a_divisor_that_cancels_to_zero_is_left_to_the_program() -> None:
    expr = x // (i + j - j - i)
    assert from_expr(expr).to_expr() is expr


def test_long_sums_need_no_recursion() -> None:
    total = i
    for _ in range(3000):
        total = total + i
    assert from_expr(total).coefficient(i) == 3001
