"""What numpy hands back to expressions (floor 2): operators whose left side is a numpy scalar. Importing this module is what makes them work."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.errors import Kind, fail
from tilewright.ir.expr import Expr, Op, binary, describe_operand, divide
from tilewright.spans import span_of_caller

_OPERATORS = {
    "add": Op.ADD,
    "subtract": Op.SUB,
    "multiply": Op.MUL,
    "floor_divide": Op.FLOORDIV,
    "remainder": Op.FLOORMOD,
    "bitwise_and": Op.BIT_AND,
    "bitwise_or": Op.BIT_OR,
    "bitwise_xor": Op.BIT_XOR,
    "left_shift": Op.SHIFT_LEFT,
    "right_shift": Op.SHIFT_RIGHT,
    "equal": Op.EQ,
    "not_equal": Op.NE,
    "less": Op.LT,
    "less_equal": Op.LE,
    "greater": Op.GT,
    "greater_equal": Op.GE,
}
_SAME_NAME = ("exp", "exp2", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt", "floor", "ceil", "trunc")
_LANGUAGE_NAMES = {name: name for name in (*_SAME_NAME, "isnan", "isinf", "isfinite", "fmod", "hypot", "copysign", "nextafter", "ldexp")} | {
    "maximum": "max",
    "minimum": "min",
    "absolute": "abs",
    "power": "pow",
    "rint": "nearbyint",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arctan2": "atan2",
}


def numpy_operator(function: Any, method: str, inputs: tuple[Any, ...]) -> Expr:
    """What numpy hands back to us: an operator whose left side is a numpy scalar, or one of its functions, which has no kernel values."""
    name = function.__name__
    inputs = tuple(x[()] if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs)  # comparisons come with scalars as arrays
    if method == "__call__" and len(inputs) == 2 and not any(isinstance(x, np.ndarray) for x in inputs):
        if name == "divide":
            return divide(*inputs)
        if name in _OPERATORS:
            return binary(_OPERATORS[name], *inputs)
    values = [x for x in inputs if not isinstance(x, (np.ndarray, np.generic, int, float))]
    fail(
        Kind.EXPRESSION_AS_NUMBER,
        f"numpy's {name} was given {describe_operand(values[0])}",
        span_of_caller(),
        because="numpy computes while the kernel is traced, when only Python's own numbers are known",
        help=f"write T.{_LANGUAGE_NAMES[name]}({', '.join(map(str, inputs))})" if name in _LANGUAGE_NAMES else "compute it from the T.* functions",
    )


Expr.numpy_operator = staticmethod(numpy_operator)
