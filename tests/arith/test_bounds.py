"""Facts and the ranges that follow from them, against the values at every point of small domains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tilewright import dtypes
from tilewright.arith.bounds import Facts, bounds_of, compare_with_zero
from tilewright.arith.value_range import exactly, value_range
from tilewright.errors import Span
from tilewright.ir import expr as ir
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Op, var

i, j, x, n, m = (var(name) for name in "ijxnm")


def test_ranges_contain_every_value(generator: Any) -> None:
    for seed in range(800):
        made = generator(seed)
        expr = made.integer(1 + seed % 4) if seed % 3 else made.condition(2)
        values = np.unique(made.domain.evaluate(expr))
        known = made.domain.facts.range_of(expr)
        assert all(known.contains(int(v)) for v in values), (seed, str(expr), str(known), values)


def test_ranges_under_guards_contain_every_value_where_the_guard_holds(generator: Any) -> None:
    reached = 0
    for seed in range(800):
        made = generator(seed)
        guard, expr, points = made.condition(seed % 3), made.integer(2), made.domain.points()
        taken = made.domain.evaluate(guard, points)
        facts = made.domain.facts.assuming(guard, has_stable_loads=True)
        assert not (facts.is_contradictory and taken.any()), (seed, str(guard))
        if not facts.is_contradictory:
            for asked in (expr, *made.domain.variables):
                values = np.unique(made.domain.evaluate(asked, points)[taken])
                assert all(facts.range_of(asked).contains(int(v)) for v in values), (seed, str(guard), str(asked), str(facts.range_of(asked)))
                reached += len(values)
    assert reached > 3000


def test_loops_and_grids_bound_their_variables() -> None:
    facts = Facts().with_box((i, j), (128, ir.ceildiv(ir.const(1000), 64)))
    assert bounds_of(i, facts) == value_range(0, 127)
    assert bounds_of(j * 64 + i, facts) == value_range(0, 15 * 64 + 127)
    assert bounds_of((i * 4 + 3) % 4, facts) == exactly(3)


def test_a_loop_to_a_symbol_takes_the_symbol_s_bound_and_says_that_it_is_positive() -> None:
    facts = Facts().with_range(n, 0, 4096).with_loop(i, n)
    assert bounds_of(i, facts) == value_range(0, 4095)
    assert bounds_of(n, facts) == value_range(1, 4096)


def test_a_loop_to_a_minimum_is_bounded_by_both_operands() -> None:
    facts = Facts().with_range(n, 0, 10).with_loop(i, ir.minimum(n, 64))
    assert bounds_of(i, facts) == value_range(0, 9)
    assert bounds_of(i, Facts().with_loop(i, ir.minimum(n, 64))) == value_range(0, 63)


def test_sums_cancel_before_they_are_bounded() -> None:
    facts = Facts().with_box((i, j), (8, 8))
    assert bounds_of(i * 8 + j - i * 8, facts) == value_range(0, 7)
    assert bounds_of(i - i // 4 * 4, facts) == value_range(0, 3)


def test_divisibility_comes_from_assumptions_in_several_shapes() -> None:
    assert bounds_of(n, Facts().assuming(n % 32 == 0)).is_divisible(32)
    assert bounds_of(n, Facts().assuming((n + 8) % 32 == 0)).residue == 24
    assert bounds_of(n, Facts().assuming(n * 3 % 8 == 0)).is_divisible(8)
    assert bounds_of(n, Facts().assuming(n == m * 16)).is_divisible(16)
    assert bounds_of(n // 4, Facts().assuming(n % 32 == 0)).is_divisible(8)
    assert bounds_of(n * m, Facts().assuming(n % 8 == 0).assuming(m % 4 == 2)).is_divisible(16)


def test_equalities_and_inequalities_narrow_each_variable_in_them() -> None:
    facts = Facts().with_range(x, 0, 100).assuming((x * 3 + n == 60) & (n >= 30))
    assert facts.range_of(x) == value_range(0, 10)
    assert facts.range_of(n).modulus == 3
    assert Facts().with_range(x, 0, 9).assuming(x != 0).range_of(x) == value_range(1, 9)
    assert Facts().with_range(x, 0, 9).assuming(~((x < 3) | (x > 5))).range_of(x) == value_range(3, 5)


def test_facts_are_immutable() -> None:
    facts = Facts().with_loop(i, 8)
    inner = facts.assuming(i > 3)
    assert facts.range_of(i) == value_range(0, 7) and inner.range_of(i) == value_range(4, 7)
    assert facts.assuming(i > 3) is inner


@pytest.mark.parametrize("condition", [(x > 3) & (x < 2), x % 4 == 5, (x * 2 == 7), (x >= n) & (x < n)])
def test_conditions_that_exclude_each_other_are_noticed(condition: ir.Expr) -> None:
    assert Facts().assuming(condition).is_contradictory


def test_conditions_on_memory_count_only_where_memory_is_stable() -> None:
    buffer = Buffer("A", dtypes.int32, (8,), Scope.SHARED, Span("test.py", 1))
    element = ir.load(buffer, (i,))
    assert Facts().assuming(element < 5).range_of(element).high == dtypes.int32.maximum
    assert Facts().assuming(element < 5, has_stable_loads=True).range_of(element).high == 4


def test_a_definition_by_a_load_keeps_only_the_range() -> None:
    octets = Buffer("A", dtypes.uint8, (8,), Scope.GLOBAL, Span("test.py", 1))
    value = ir.cast(ir.load(octets, (i,)), dtypes.int32) * 2
    facts = Facts().with_definition(x, value)
    assert facts.range_of(x) == value_range(0, 510, 2)
    assert facts.range_of(x - value).low == -510
    assert Facts().with_definition(x, n * 4 + 1).range_of(x).modulus == 4


def test_dtypes_bound_what_nothing_else_bounds() -> None:
    octet, word = var("octet", dtypes.uint8), var("word", dtypes.uint32)
    facts = Facts()
    assert facts.range_of(octet) == value_range(0, 255)
    assert facts.range_of(ir.cast(octet, dtypes.int32) * 2 + 1) == value_range(1, 511, 2, 1)
    assert facts.range_of(n) == value_range(-(1 << 31), (1 << 31) - 1)
    assert facts.range_of(var("wide", dtypes.int64)) == value_range(-(1 << 63), (1 << 63) - 1)
    assert facts.range_of((word >> 4) & 15) == value_range(0, 15)


def test_what_may_wrap_gets_its_whole_dtype_as_range() -> None:
    octet, word = var("octet", dtypes.uint8), var("word", dtypes.uint32)
    facts = Facts().with_range(octet, 0, 100).with_range(n, -5, 300)
    assert facts.range_of(octet + octet) == value_range(0, 200)
    assert facts.range_of(octet * 3) == value_range(0, 300, 3), "int32 by promotion"
    assert facts.range_of(ir.binary(Op.MUL, octet, ir.const(3, dtypes.uint8))) == value_range(0, 255)
    assert facts.range_of(word - 1) == value_range(0, (1 << 32) - 1)
    assert facts.range_of(ir.cast(n, dtypes.int8)) == value_range(-128, 127)
    assert facts.range_of(ir.cast(n, dtypes.uint16)) == value_range(0, 65535)


def test_a_select_is_bounded_by_its_sides_each_under_its_condition() -> None:
    facts = Facts().with_range(x, -100, 100)
    assert facts.range_of(ir.select(x < 0, -x, x)) == value_range(0, 100)
    assert facts.range_of(ir.select(x < 200, x, 5000)) == value_range(-100, 100)


def test_choices_on_choices_take_few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name is chosen by the one before: looking at every choice under both answers of all before it would take 2^12 copies of the facts."""
    copies = []
    copy = Facts._copy
    monkeypatch.setattr(Facts, "_copy", lambda facts: copies.append(1) or copy(facts))
    facts, before = Facts().with_range(x, -100, 100), x
    for k in range(12):
        after = var(f"x{k}")
        facts = facts.with_definition(after, ir.select(before > k, before - 2, before + 1))
        before = after
    assert facts.range_of(before).is_inside(-124, 112)
    assert len(copies) < 2500


@pytest.mark.parametrize("op", [Op.LT, Op.LE, Op.GT, Op.GE, Op.EQ, Op.NE])
def test_comparisons_of_a_range_with_zero(op: Op) -> None:
    meaning = {Op.LT: int.__lt__, Op.LE: int.__le__, Op.GT: int.__gt__, Op.GE: int.__ge__, Op.EQ: int.__eq__, Op.NE: int.__ne__}[op]
    for known in (value_range(-3, -1), value_range(-3, 0), exactly(0), value_range(0, 2), value_range(1, 5), value_range(-4, 5, 4, 1), value_range(-2, 2)):
        answers = {meaning(v, 0) for v in range(-9, 9) if known.contains(v)}
        assert compare_with_zero(op, known) == (answers.pop() if len(answers) == 1 else None), str(known)
