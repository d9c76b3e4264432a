"""Counterexamples satisfy every fact, break the claim, and are not made up where values are unknown."""

from __future__ import annotations

from typing import Any

from tilewright import dtypes
from tilewright.arith.bounds import Facts
from tilewright.arith.counterexample import exact_value, find_counterexample
from tilewright.errors import Span
from tilewright.ir import expr as ir
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import const, var

i, n, m = var("i"), var("n"), var("m")


def test_values_agree_with_the_evaluation_of_expressions(generator: Any) -> None:
    checked = 0
    for seed in range(300):
        made = generator(seed)
        expr = made.integer(2)
        if "table" in str(expr) or "octets" in str(expr):
            continue
        points = made.domain.points()
        values = made.domain.evaluate(expr, points)
        for number in range(0, values.size, max(1, values.size // 5)):
            assert exact_value(expr, {v: int(p[number]) for v, p in points.items()}) == values[number], str(expr)
            checked += 1
    assert checked > 500


def test_every_fact_holds_at_a_counterexample() -> None:
    facts = Facts().with_range(n, 1, 1000, 8).assuming(n > 40).with_loop(i, n).assuming(i % 3 == 1)
    found = find_counterexample(i < 30, facts)
    assert found is not None
    assert found[n] % 8 == 0 and found[n] > 40 and 30 <= found[i] < found[n] and found[i] % 3 == 1


def test_nothing_is_found_for_true_claims_or_unknown_values() -> None:
    facts = Facts().with_range(n, 1, 1000).with_loop(i, n)
    assert find_counterexample(i < n, facts) is None
    buffer = Buffer("A", dtypes.int32, (8,), Scope.GLOBAL, Span("test.py", 1))
    element = ir.load(buffer, (const(0),))
    assert find_counterexample(element < 5, facts) is None
    assert find_counterexample(i < 5, facts.assuming(element < i)) is None


def test_points_where_arithmetic_overflows_are_no_counterexamples() -> None:
    far = Facts().with_range(n, 1 << 30, (1 << 31) - 1)
    assert find_counterexample(n * 4 == 0, far) is None
