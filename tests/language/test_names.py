"""When two values of a name count as one, and what a name without a value gives."""

from __future__ import annotations

import pytest

import tilewright.language as T
from tilewright.errors import Span
from tilewright.ir.expr import const, var
from tilewright.language.names import Carried, Poison, PoisonReason, Unbound, bound, is_same_value, peek, variable_help

HERE, THERE = Span("a.py", 1), Span("b.py", 2)
N = var("n")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (3, 3),
        (0.5, 0.5),
        ("x", "x"),
        (True, True),
        (N, N),
        (N + 1, N + 1),
        (const(3), const(3)),
        (T.float32, T.float32),
        (Carried(N, []), N),
        (7, Carried(7, [])),
        (Poison(PoisonReason.UNBOUND, HERE), Poison(PoisonReason.UNBOUND, THERE)),
    ],
)
def test_one_value(a, b) -> None:
    assert is_same_value(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (3, 4),
        (1, True),
        (1, 1.0),
        (N, var("n")),
        (N, N + 1),
        ([], []),
        (T.float32, "float32"),
        (3, Poison(PoisonReason.UNBOUND, HERE)),
        (Poison(PoisonReason.LOOP, HERE), Poison(PoisonReason.BRANCH, HERE)),
        (Carried(N, []), N + 1),
    ],
)
def test_two_values(a, b) -> None:
    assert not is_same_value(a, b)
    assert not is_same_value(b, a)


def test_a_name_is_read_or_unbound() -> None:
    value = 3
    assert peek(lambda: value) == 3
    assert peek(lambda: missing) is Unbound.UNBOUND
    with pytest.raises(ZeroDivisionError):
        peek(lambda: 1 // 0)


def test_an_unbound_name_becomes_a_poison_of_the_place() -> None:
    assert bound(Unbound.UNBOUND, HERE) == Poison(PoisonReason.UNBOUND, HERE)
    assert bound(3, HERE) == 3
    assert "line 1" in bound(Unbound.UNBOUND, HERE).describe()


def test_the_help_names_the_variable_to_declare() -> None:
    assert "`total = T.alloc_var(" in variable_help("total")
