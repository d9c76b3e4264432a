"""Expressions as text: what is printed reads back, in Python, as the same expression."""

from __future__ import annotations

import ast
import functools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright import dtypes
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op, Rounding, binary, cast, const, load, logical, maximum, minimum, reinterpret, select, unary, var
from tilewright.ir.expr_text import print_expr

X, Y, Z = var("x"), var("y"), var("z")


OPERATORS = [Op.ADD, Op.SUB, Op.MUL, Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR, Op.MIN, Op.LT, Op.EQ, Op.GE]


def expression(rng: random.Random, depth: int) -> Expr:
    if depth == 0:
        return rng.choice([X, Y, Z, const(3), const(-2)])
    a, b, c = (expression(rng, rng.randrange(depth)) for _ in range(3))
    match rng.randrange(8):
        case 0:
            return -a
        case 1:
            return logical(Op.AND, a, b)
        case 2:
            return logical(Op.OR, a, b)
        case 3:
            return unary(Op.NOT, a)
        case 4:
            return select(c, a, b)
    return binary(rng.choice(OPERATORS), a, b)


class Reader(dict[str, Any]):
    """Names of the printed text; `and`, `or` and `not` are read from the syntax tree, as Python calls no method for them."""

    def __init__(self) -> None:
        super().__init__(x=X, y=Y, z=Z, min=minimum, select=select, cast=lambda v, d: cast(v, d), **{str(d): d for d in dtypes.SCALAR_DTYPES})


def read(text: str) -> Expr:
    def value(node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(op=op, values=parts):
                return functools.reduce(lambda a, b: logical(Op.AND if isinstance(op, ast.And) else Op.OR, a, b), map(value, parts))
            case ast.UnaryOp(op=ast.Not(), operand=a):
                return unary(Op.NOT, value(a))
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return -value(a)
            case ast.BinOp(left=a, op=op, right=b):
                names = {ast.Add: Op.ADD, ast.Sub: Op.SUB, ast.Mult: Op.MUL, ast.BitAnd: Op.BIT_AND, ast.BitOr: Op.BIT_OR, ast.BitXor: Op.BIT_XOR}
                return binary(names[type(op)], value(a), value(b))
            case ast.Compare(left=a, ops=[op], comparators=[b]):
                return binary({ast.Lt: Op.LT, ast.Eq: Op.EQ, ast.GtE: Op.GE, ast.NotEq: Op.NE, ast.Gt: Op.GT}[type(op)], value(a), value(b))
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return Reader()[name](*map(value, arguments))
            case ast.Name(id=name):
                return Reader()[name] if name not in ("True", "False") else name == "True"
            case ast.Constant(value=v):
                return v
        raise AssertionError(f"{ast.dump(node)} in {text}")

    made = value(ast.parse(text, mode="eval").body)
    return made if isinstance(made, Expr) else const(made)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 5))
def test_the_text_reads_back_as_the_same_object(seed: int, depth: int) -> None:
    node = expression(random.Random(seed), depth)
    assert read(str(node)) is node, str(node)


TILE = Buffer("A", dtypes.float16, (4, 8), Scope.GLOBAL, Span("kernel.py", 1))


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (X + Y * Z, "x + y * z"),
        ((X + Y) * Z, "(x + y) * z"),
        (X - (Y - Z), "x - (y - z)"),
        (X - Y - Z, "x - y - z"),
        (-(X + Y), "-(x + y)"),
        (~X, "~x"),
        (const(2.5), "2.5"),
        (const(True), "True"),
        (const(3, dtypes.int64), "int64(3)"),
        (const(-1), "-1"),
        (load(TILE, (X, Y + 1)), "A[x, y + 1]"),
        (cast(X, dtypes.float16), "cast(x, float16)"),
        (cast(cast(X, dtypes.float32), dtypes.float16, Rounding.UP), "cast(cast(x, float32), float16, ru)"),
        (reinterpret(X, dtypes.float32), "reinterpret(x, float32)"),
        (minimum(X, Y) // 2, "min(x, y) // 2"),
        (maximum(X, 1), "max(x, 1)"),
        ((X < Y) == (Y < Z), "(x < y) == (y < z)"),
        (select(X > 0, X, Y, is_lazy=True), "if_then_else(x > 0, x, y)"),
        (unary(Op.NOT, logical(Op.AND, X > 0, Y > 0)), "not (x > 0 and y > 0)"),
        (X << 2, "x << 2"),
        (binary(Op.TRUNCDIV, X, Y), "truncdiv(x, y)"),
    ],
)
def test_spellings(node: Expr, text: str) -> None:
    assert str(node) == text and repr(node) == f"<{node.dtype!s} {text}>"


def test_names_may_be_replaced() -> None:
    assert print_expr(X + Y, lambda v: v.name * 2) == "xx + yy"
