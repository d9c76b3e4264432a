"""Pieces of C source: expressions with the precedence of their outermost operator, and lines (floor 6)."""

from __future__ import annotations

from typing import NamedTuple

# Precedence of C's operators, tightest first.
ATOM = 16
UNARY = 14
PRODUCT = 12
SUM = 11
SHIFT = 10
RELATION = 9
EQUALITY = 8
BIT_AND = 7
BIT_XOR = 6
BIT_OR = 5
AND = 4
OR = 3
CHOICE = 2

_LEVELS = {
    "*": PRODUCT,
    "/": PRODUCT,
    "%": PRODUCT,
    "+": SUM,
    "-": SUM,
    "<<": SHIFT,
    ">>": SHIFT,
    "<": RELATION,
    "<=": RELATION,
    ">": RELATION,
    ">=": RELATION,
    "==": EQUALITY,
    "!=": EQUALITY,
    "&": BIT_AND,
    "^": BIT_XOR,
    "|": BIT_OR,
    "&&": AND,
    "||": OR,
}
# Operators whose operands readers, and warnings of compilers, want in parentheses unless they are products of plain sums.
_EXPLICIT = frozenset({"<<", ">>", "&", "^", "|", "&&", "||"})


class Text(NamedTuple):
    """An expression and how tightly its outermost operator binds."""

    text: str
    level: int

    def __str__(self) -> str:
        return self.text

    def at(self, level: int) -> str:
        """The text where an operand of that precedence stands."""
        return self.text if self.level >= level else f"({self.text})"


def atom(text: str) -> Text:
    return Text(text, ATOM)


def call(function: str, *arguments: Text | str) -> Text:
    return Text(f"{function}({', '.join(map(str, arguments))})", ATOM)


def prefix(operator: str, operand: Text) -> Text:
    return Text(f"{operator}{operand.at(UNARY + (operand.text[:1] == operator[:1]))}", UNARY)


def cast(type_: str, operand: Text) -> Text:
    return Text(f"({type_}){operand.at(UNARY)}", UNARY)


def infix(operator: str, left: Text, right: Text) -> Text:
    level = _LEVELS[operator]
    if operator in _EXPLICIT:
        is_chain = operator in ("&&", "||", "&", "|", "^") and left.level == level
        inner = RELATION if operator in ("&&", "||") else UNARY
        return Text(f"{left.text if is_chain else left.at(inner)} {operator} {right.at(inner)}", level)
    return Text(f"{left.at(level)} {operator} {right.at(level + 1)}", level)


def choice(condition: Text, if_true: Text, if_false: Text) -> Text:
    return Text(f"{condition.at(CHOICE + 1)} ? {if_true.at(CHOICE + 1)} : {if_false.at(CHOICE)}", CHOICE)


class Lines:
    """Lines of a function body under construction."""

    def __init__(self, depth: int = 0) -> None:
        self.lines: list[str] = []
        self.depth = depth

    def add(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)
