"""Simplification: the same values at every point of random programs, and the forms that generated code should have."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from tilewright import dtypes
from tilewright.arith.bounds import Facts
from tilewright.arith.simplify import simplify
from tilewright.errors import Span
from tilewright.ir import expr as ir
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Op, ceildiv, const, maximum, minimum, select, var
from tilewright.ir.intrinsic import Intrinsic

bx, by, i, j, n, m, x, y = (var(name) for name in ("bx", "by", "i", "j", "n", "m", "x", "y"))
FACTS = Facts().with_box((bx, by, i, j), (32, 32, 128, 64)).with_range(n, 1, 65536)
TABLE = Buffer("table", dtypes.float32, (64,), Scope.GLOBAL, Span("test.py", 1))


def test_random_expressions_keep_their_values_and_their_lazy_loads(generator: Any) -> None:
    for seed in range(1200):
        made = generator(seed)
        facts, points = made.domain.facts, made.domain.points()
        if seed % 2:
            guard = made.condition(seed % 3)
            taken = made.domain.evaluate(guard, points)
            facts, points = facts.assuming(guard, has_stable_loads=True), {v: p[taken] for v, p in points.items()}
            if not taken.any():
                continue
        expr = made.integer(1 + seed % 4) if seed % 3 else made.condition(2)
        simple = simplify(expr, facts)
        assert simple.dtype == expr.dtype
        # The loader fails on a load outside its buffer, so a load that lost its guard does not go unseen.
        assert np.array_equal(made.domain.evaluate(expr, points), made.domain.evaluate(simple, points)), (seed, str(expr), str(simple))


def test_dtypes_that_wrap_keep_their_values(generator: Any, domain: Any) -> None:
    octet, small = var("octet", dtypes.uint8), var("small", dtypes.int8)
    here = domain(Facts().with_range(i, -3, 9), {octet: range(0, 256, 15), small: range(-128, 128, 17), i: range(-3, 10)})
    points = {v: p.astype(v.dtype.numpy) for v, p in here.points().items()}
    wide = [dtypes.uint8, dtypes.int8, dtypes.uint16, dtypes.int32, dtypes.int64, dtypes.uint32]

    def integer(r: Random, depth: int) -> ir.Expr:
        if depth == 0:
            return r.choice([octet, small, i, const(r.randint(-5, 9))])
        a, kind = integer(r, depth - 1), r.randint(0, 6)
        if kind < 2:
            return ir.binary(r.choice([Op.ADD, Op.SUB, Op.MUL, Op.MIN, Op.MAX, Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR]), a, integer(r, depth - 1))
        if kind == 2:
            return ir.binary(r.choice([Op.FLOORDIV, Op.FLOORMOD]), a, const(r.choice([2, 3, 8, 16]), a.dtype))
        if kind == 3:
            return select(integer(r, depth - 1) < integer(r, 0), a, integer(r, depth - 1), is_lazy=r.random() < 0.5)
        return ir.cast(a, r.choice(wide))

    for seed in range(600):
        r = Random(seed)
        expr = integer(r, 3) if seed % 2 else ir.binary(r.choice([Op.LT, Op.LE, Op.EQ, Op.GT]), integer(r, 2), integer(r, 2))
        values = here.evaluate(expr, points)
        simple = simplify(expr, here.facts)
        assert simple.dtype == expr.dtype and np.array_equal(values, here.evaluate(simple, points)), (seed, str(expr), str(simple))
        known = here.facts.range_of(expr)
        assert all(known.contains(int(v)) for v in np.unique(values)), (seed, str(expr), str(known))


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ((bx * 64 + j) // 64, bx),
        ((bx * 64 + j) % 64, j),
        ((bx * 64 + j) // 16, bx * 4 + j // 16),
        ((bx * 64 + j) % 16, j % 16),
        ((i * 64 + j) // 64 * 64 + (i * 64 + j) % 64, i * 64 + j),
        ((i * 128 + j) % 8 * 16 + (i * 128 + j) // 8, (j % 8 + i) * 16 + j // 8),
        (minimum(bx * 128 + i, 4096), bx * 128 + i),
        (minimum(bx * 128 + 128, n) - bx * 128, minimum(128, n - bx * 128)),
        (maximum(minimum(i, 200), 0), i),
        ((bx * 128 + i < 4096) & (by * 64 + j < n), by * 64 + j < n),
        (select(bx * 64 + j < 2048, bx * 64 + j, 0), bx * 64 + j),
        (select(i < n, select(n > i, i, 7), 3, is_lazy=True), select(i < n, i, 3, is_lazy=True)),
        ((x + y) * 8 + i, (x + y) * 8 + i),
        (x // 4 * 4 + x % 4, x),
        (x - x // 4 * 4, x % 4),
        (x // 4 // 8, x // 32),
        (x % 32 // 4 * 4 + x % 4, x % 32),
        (ceildiv(n * 32, 32), n),
        ((i * n + x % n) // n, i),
        ((i * n + x % n) % n, x % n),
        (x * 32 + 31 < y * 32, x < y),
        (i * 4 + 1 >= j * 4 + 6, i >= j + 2),
        (x - 1 >= y, x > y),
        (x < y + 1, x <= y),
        (i < 100 - j, i + j < 100),
        (x * 4 == y * 6 + 1, const(False)),
        (-x < 0, const(0) < x),
        (ir.binary(Op.TRUNCDIV, i, 8), i // 8),
        (ir.binary(Op.TRUNCMOD, i, 8), i % 8),
        (ir.binary(Op.TRUNCDIV, x, 8), ir.binary(Op.TRUNCDIV, x, 8)),
        (i >> 3, i // 8),
        (ir.cast(ir.cast(i, dtypes.int64), dtypes.int32) + 1, i + 1),
        (ir.cast(i + x - x, dtypes.float32), ir.cast(i, dtypes.float32)),
    ],
)
def test_simplified_forms(expr: ir.Expr, expected: ir.Expr) -> None:
    simple = simplify(expr, FACTS)
    assert simple is (expected), f"{simple}"
    assert simplify(simple, FACTS) is simple


def test_indices_of_loads_are_simplified() -> None:
    assert simplify(ir.load(TABLE, ((bx * 64 + j) % 64,)), FACTS) is ir.load(TABLE, (j,))


def test_a_select_does_not_simplify_its_sides_by_its_condition() -> None:
    # Both sides are evaluated: an index that is right only where the condition holds would read elsewhere.
    expr = select(x < 64, ir.load(TABLE, (minimum(x, 63),)), 0.0)
    assert simplify(expr, Facts().with_range(x, 0, 1000)) is expr
    lazy = select(x < 64, ir.load(TABLE, (minimum(x, 63),)), 0.0, is_lazy=True)
    assert simplify(lazy, Facts().with_range(x, 0, 1000)) is select(x < 64, ir.load(TABLE, (x,)), 0.0, is_lazy=True)


def test_the_right_side_of_and_knows_the_left() -> None:
    assert simplify((x < 8) & (x < 9)) is (x < 8)
    assert simplify((x >= 8) | (x < 8)) is const(True)


def test_arithmetic_that_may_wrap_is_left_alone() -> None:
    word = var("word", dtypes.uint32)
    expr = (word * 4) // 4
    assert simplify(expr) is expr
    small = var("small", dtypes.int8)
    assert simplify(small + 1 - 1 < small + 0) is const(False), "int32 by promotion: no wrap"
    wrapping = ir.binary(Op.ADD, small, const(1, dtypes.int8)) > small
    assert simplify(wrapping) is wrapping


def test_terms_do_not_change_sides_where_they_might_overflow() -> None:
    limit = const(dtypes.int32.maximum)
    assert simplify(x < limit - y) is (x < limit - y)
    assert simplify((x + i * 64 + y) // 64) is (x + i * 64 + y) // 64
    assert simplify(x // 65536 // 65536) is x // 65536 // 65536, "the product of the divisors does not fit"
    assert simplify(minimum(x + i, y + i)) is i + minimum(x, y)


def test_float_arithmetic_is_left_alone() -> None:
    f = var("f", dtypes.float32)
    for expr in ((f + 1.0) - 1.0, f * 0.0, f - f, maximum(f, f * 2.0), f < f + 1.0):
        assert simplify(expr) is expr


def test_impure_calls_are_neither_dropped_into_copies_nor_rebuilt() -> None:
    draw = Intrinsic("draw", 1, lambda kinds: kinds[0], lambda seed: seed, is_pure=False)
    call = ir.call(draw, x + 0 * y)
    assert simplify(call) is call
    assert simplify(call + call) is ir.binary(Op.MUL, call, 2)


def test_products_widen_before_they_multiply() -> None:
    offset = simplify(ir.cast(x, dtypes.int64) * ir.cast(n, dtypes.int64) + ir.cast(j, dtypes.int64), FACTS)
    product = offset.args[0]
    assert product.op is Op.MUL and all(a.dtype == dtypes.int64 for a in product.args)


def test_results_do_not_depend_on_what_was_simplified_before() -> None:
    one = [str(simplify((j + i) // 4 + (i + j) // 4, Facts()))]
    facts = Facts()
    simplify((i + j) * 5, facts)
    assert [str(simplify((j + i) // 4 + (i + j) // 4, facts))] == one
