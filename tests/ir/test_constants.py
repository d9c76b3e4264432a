"""Folding and conversion of constants: what code that runs would give, for every operation and dtype."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.execution import refused
from tilewright.arith.evaluate import evaluate
from tilewright.dtypes import SCALAR_DTYPES, DType, as_dtype
from tilewright.errors import Kind
from tilewright.ir.constants import convert_constant, fold_constants
from tilewright.ir.expr import Expr, binary, cast, const, unary, var
from tilewright.ir.operation import COMPARISONS, Op

INTEGERS = [d for d in SCALAR_DTYPES if d.is_integer]
FLOATS = [d for d in SCALAR_DTYPES if d.is_float and d != "tfloat32"]
NUMBERS = [d for d in SCALAR_DTYPES if d.is_integer or d.is_bool or (d.is_float and d != "tfloat32")]
ON_INTEGERS = [Op.ADD, Op.SUB, Op.MUL, Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD, Op.MIN, Op.MAX, Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR]
ON_FLOATS = [Op.ADD, Op.SUB, Op.MUL, Op.MIN, Op.MAX]


def no_load(*_: Any) -> Any:
    raise AssertionError("nothing is loaded here")


def run(node: Expr, values: dict[Expr, Any]) -> Any:
    with np.errstate(all="ignore"):
        return evaluate(node, values, no_load)[()]


def numbers(dtype: DType) -> st.SearchStrategy[Any]:
    """Elements of a dtype as Python numbers, the edges often."""
    if dtype.is_bool:
        return st.booleans()
    if dtype.is_integer:
        low, high = int(dtype.minimum), int(dtype.maximum)
        return st.one_of(st.integers(low, high), st.integers(max(low, -9), min(high, 9)), st.sampled_from([low, high, high - 1]))
    return st.one_of(st.floats(width=32), st.integers(-9, 9).map(float)).map(lambda x: convert_constant(x, dtype))


def same(a: Any, b: Any) -> bool:
    x, y = float(a), float(b)
    return (math.isnan(x) and math.isnan(y)) or (a == b)


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_integer_operations(data: st.DataObject) -> None:
    dtype, op = data.draw(st.sampled_from(INTEGERS)), data.draw(st.sampled_from([*ON_INTEGERS, *COMPARISONS]))
    x, y = data.draw(numbers(dtype)), data.draw(numbers(dtype))
    if y == 0 and op in (Op.FLOORDIV, Op.FLOORMOD, Op.TRUNCDIV, Op.TRUNCMOD):
        with refused(Kind.DIVISION_BY_ZERO):
            binary(op, const(x, dtype), const(y, dtype))
        return
    folded, variable = binary(op, const(x, dtype), const(y, dtype)), var("x", dtype)
    assert folded.is_const and folded.dtype == ("bool" if op in COMPARISONS else dtype)
    assert same(folded.value, run(binary(op, variable, const(y, dtype)), {variable: x})), (x, op, y, dtype)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_float_operations(data: st.DataObject) -> None:
    dtype, op = data.draw(st.sampled_from(FLOATS)), data.draw(st.sampled_from([*ON_FLOATS, *COMPARISONS]))
    x, y = data.draw(numbers(dtype)), data.draw(numbers(dtype))
    variable = var("x", dtype)
    made = binary(op, const(x, dtype), const(y, dtype))
    if made.is_const:
        assert same(made.value, run(binary(op, variable, const(y, dtype)), {variable: x})), (x, op, y, dtype)
    else:
        assert made.op is op


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_shifts_and_unary_operations(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(INTEGERS))
    x, count, variable = data.draw(numbers(dtype)), data.draw(st.integers(0, dtype.bits - 1)), var("x", dtype)
    for op in (Op.SHIFT_LEFT, Op.SHIFT_RIGHT):
        assert binary(op, const(x, dtype), const(count, dtype)).value == run(binary(op, variable, const(count, dtype)), {variable: x})
    for op in (Op.NEG, Op.BIT_NOT):
        assert unary(op, const(x, dtype)).value == run(unary(op, variable), {variable: x})


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_conversions(data: st.DataObject) -> None:
    source, target = data.draw(st.sampled_from(NUMBERS)), data.draw(st.sampled_from(NUMBERS))
    x, variable = data.draw(numbers(source)), var("x", source)
    folded = cast(const(x, source), target)
    assert folded.is_const and folded.dtype == target
    assert same(folded.value, run(cast(variable, target), {variable: x})), (x, source, target)


@pytest.mark.parametrize(
    ("value", "dtype", "wanted"),
    [
        (2.9, "int32", 2),
        (-2.9, "int8", -2),
        (1e10, "int32", 2**31 - 1),
        (-1e10, "int32", -(2**31)),
        (float("inf"), "uint8", 255),
        (-1.0, "uint8", 0),
        (float("nan"), "int16", 0),
        (300, "uint8", 44),
        (-1, "uint64", 2**64 - 1),
        (2**31, "int32", -(2**31)),
        (9, "int4", -7),
        (0.1, "float32", float(np.float32(0.1))),
        (1e40, "float32", float("inf")),
        (0.1, "float64", 0.1),
        (70000.0, "float16", float("inf")),
        (5, "bool", True),
        (0.0, "bool", False),
        (1e30, "int64", 2**63 - 1),
    ],
)
def test_python_numbers_as_elements(value: Any, dtype: str, wanted: Any) -> None:
    found = convert_constant(value, as_dtype(dtype))
    assert found == wanted and type(found) is type(wanted)


def test_what_is_left_to_code_that_runs() -> None:
    nan, half = float("nan"), as_dtype("float16")
    assert fold_constants(Op.ADD, 1.0, 2.0, half) is None and fold_constants(Op.DIV, 1.0, 2.0, as_dtype("float32")) is None
    assert fold_constants(Op.MAX, nan, 2.0, as_dtype("float32")) is None
    assert fold_constants(Op.LT, nan, 2.0, half) is False and fold_constants(Op.MAX, 1.0, 2.0, half) == 2.0
    assert fold_constants(Op.ADD, 2**31 - 1, 1, as_dtype("int32")) == operator.add(2**31 - 1, 1)
