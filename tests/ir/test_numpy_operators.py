"""numpy scalars to the left of an operator, and numpy's functions, which compute nothing inside a kernel."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

from tests.execution import refused
from tilewright.errors import Kind
from tilewright.ir.expr import binary, const, var
from tilewright.ir.operation import Op

X, F = var("x"), var("f", const(1.0).dtype)


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (operator.add, Op.ADD),
        (operator.sub, Op.SUB),
        (operator.mul, Op.MUL),
        (operator.floordiv, Op.FLOORDIV),
        (operator.mod, Op.FLOORMOD),
        (operator.and_, Op.BIT_AND),
        (operator.lshift, Op.SHIFT_LEFT),
        (operator.lt, Op.LT),
        (operator.eq, Op.EQ),
    ],
)
def test_operators(function: Any, op: Op) -> None:
    assert function(np.int32(7), X) is binary(op, const(7), X)


def test_quotients_of_floats() -> None:
    assert np.float32(2.0) / F is 2.0 / F


@pytest.mark.parametrize(
    ("call", "help"),
    [
        (lambda: np.exp(F), "write T.exp(f)"),
        (lambda: np.maximum(F, 2.0), "write T.max(f, 2.0)"),
        (lambda: np.power(F, F), "write T.pow(f, f)"),
        (lambda: np.square(F), "compute it from the T.* functions"),
    ],
)
def test_functions_are_refused_with_the_languages_own(call: Any, help: str) -> None:
    with refused(Kind.EXPRESSION_AS_NUMBER, help):
        call()
