"""Parentheses: as few as keep the meaning, and those that readers want."""

from __future__ import annotations

from tilewright.codegen.cfamily.text import Lines, Text, atom, call, cast, choice, infix, prefix

A, B, C = atom("a"), atom("b"), atom("c")


def test_operators_of_one_precedence_lean_to_the_left() -> None:
    assert str(infix("-", infix("-", A, B), C)) == "a - b - c"
    assert str(infix("-", A, infix("-", B, C))) == "a - (b - c)"
    assert str(infix("*", infix("+", A, B), C)) == "(a + b) * c"
    assert str(infix("+", infix("*", A, B), C)) == "a * b + c"


def test_bits_and_shifts_are_bracketed() -> None:
    assert str(infix("<<", infix("+", A, B), C)) == "(a + b) << c"
    assert str(infix("|", infix("&", A, B), C)) == "(a & b) | c"
    assert str(infix("|", infix("|", A, B), C)) == "a | b | c"
    assert str(infix("&&", infix("<", A, B), infix("||", B, C))) == "a < b && (b || c)"


def test_signs_do_not_run_together() -> None:
    assert str(prefix("-", prefix("-", A))) == "-(-a)"
    assert str(infix("-", A, prefix("-", B))) == "a - -b"
    assert str(prefix("~", cast("int", A))) == "~(int)a"


def test_casts_calls_and_choices() -> None:
    assert str(cast("float", infix("+", A, B))) == "(float)(a + b)"
    assert str(call("min", A, infix("+", B, C))) == "min(a, b + c)"
    nested = choice(A, B, choice(B, C, A))
    assert str(nested) == "a ? b : b ? c : a"
    assert str(infix("+", nested, C)) == "(a ? b : b ? c : a) + c"
    assert isinstance(nested, Text)


def test_lines_are_indented() -> None:
    lines = Lines(2)
    lines.add("x;")
    assert lines.lines == ["        x;"]
