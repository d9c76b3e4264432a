"""Exact division."""

from __future__ import annotations

import pytest

from tilewright.arith.bounds import Facts
from tilewright.arith.exact import ArithError, exact_div
from tilewright.ir.expr import var

i, j, n = var("i"), var("j"), var("n")


def test_terms_are_divided_one_by_one() -> None:
    assert exact_div(i * 64 + j * 8, 8, Facts()) is i * 8 + j
    assert exact_div(96, 8, Facts()) == 12


def test_divisibility_may_come_from_facts() -> None:
    assert exact_div(n + i * 8, 8, Facts().assuming(n % 8 == 0)) is i + n // 8


@pytest.mark.parametrize("value", [i * 8 + 4, n, 12])
def test_what_is_not_proved_is_an_error(value: object) -> None:
    with pytest.raises(ArithError, match="divisible by 8"):
        exact_div(value, 8, Facts())  # type: ignore[arg-type]
