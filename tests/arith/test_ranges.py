"""`affine_range` against the condition itself at every point."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from tilewright import dtypes
from tilewright.arith.bounds import Facts
from tilewright.arith.evaluate import evaluate
from tilewright.arith.linear import contains
from tilewright.arith.ranges import affine_range
from tilewright.errors import Span
from tilewright.ir import expr as ir
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Op, var

v, n, m = var("v"), var("n"), var("m")
COMPARISONS = [Op.LT, Op.LE, Op.GT, Op.GE, Op.EQ]


@pytest.mark.parametrize(("op", "c"), list(product(COMPARISONS, [-5, -3, -1, 1, 2, 7])))
def test_one_comparison_is_bounded_exactly_for_every_coefficient(op: Op, c: int, domain: Any) -> None:
    here = domain(Facts(), {v: range(-6, 20), n: range(-15, 16)})
    points = here.points()
    for condition in (ir.binary(op, v * c + n, 4), ir.binary(op, n * 2 + 1, v * c), ~ir.binary(Op.NE if op is Op.EQ else op, v * c, n)):
        found = affine_range(condition, v)
        assert not found.residual
        inside = np.ones(1, np.bool_)
        for low in found.lows:
            assert not contains(low, v)
            inside = inside & (here.evaluate(low, points) <= points[v])
        for high in found.highs:
            assert not contains(high, v)
            inside = inside & (points[v] < here.evaluate(high, points))
        assert np.array_equal(inside, here.evaluate(condition, points)), str(condition)


def test_random_conjunctions_are_the_bounds_and_the_residual(generator: Any) -> None:
    bounded = 0
    for seed in range(400):
        made = generator(seed)
        variable = made.domain.variables[seed % 4]
        condition = made.condition(1)
        for _ in range(2):
            condition = ir.logical(Op.AND, condition, made.condition(1))
        points = made.domain.points()
        found = affine_range(condition, variable, made.domain.facts)
        inside = np.ones(points[variable].shape, np.bool_)
        for low in found.lows:
            inside &= made.domain.evaluate(low, points) <= points[variable]
        for high in found.highs:
            inside &= points[variable] < made.domain.evaluate(high, points)
        bounded += len(found.lows) + len(found.highs)
        rest = ir.const(True)
        for conjunct in found.residual:
            rest = ir.logical(Op.AND, rest, conjunct)
        inside[inside] = made.domain.evaluate(rest, {x: p[inside] for x, p in points.items()}) if inside.any() else []
        assert np.array_equal(inside, made.domain.evaluate(condition, points)), (seed, str(condition))
    assert bounded > 150


def test_guards_of_a_tile_become_one_bound_each() -> None:
    facts = Facts().with_range(m, 1, 65536).with_range(n, 0, 2048)
    found = affine_range((n * 32 + v < m) & (v < 20), v, facts)
    assert [str(high) for high in found.highs] == ["m - n * 32", "20"] and not found.lows and not found.residual


def test_bounds_that_might_overflow_are_computed_in_64_bits() -> None:
    (high,) = affine_range(v + n < m, v).highs
    assert high.dtype == dtypes.int64
    assert int(evaluate(high, {n: -5, m: (1 << 31) - 1}, lambda *_: np.zeros(0))) == (1 << 31) + 4


def test_what_is_not_affine_or_not_about_the_variable_stays() -> None:
    conditions = [v * v < n, v // 2 == n, n < m, v != n, ir.logical(Op.OR, v < n, v > m)]
    for condition in conditions:
        assert affine_range(condition, v).residual == (condition,)


def test_what_would_be_unsafe_outside_its_guard_stays() -> None:
    buffer = Buffer("A", dtypes.int32, (8,), Scope.GLOBAL, Span("test.py", 1))
    loads = v < ir.load(buffer, (n,))
    divides = v < m // n
    assert affine_range((n < 8) & loads, v).residual == (n < 8, loads)
    assert affine_range(divides, v).residual == (divides,)
    assert not affine_range(divides, v, Facts().with_range(n, 1, 10)).residual
