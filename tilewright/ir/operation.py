"""What expressions do: the operations and how conversions round (floor 2)."""

from __future__ import annotations

from enum import Enum


class Op(Enum):
    """What a node does; the value is how it prints."""

    CONST = "const"
    VAR = "var"
    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "/"
    FLOORDIV = "//"
    FLOORMOD = "%"
    TRUNCDIV = "truncdiv"
    TRUNCMOD = "truncmod"
    MIN = "min"
    MAX = "max"
    BIT_AND = "&"
    BIT_OR = "|"
    BIT_XOR = "^"
    SHIFT_LEFT = "<<"
    SHIFT_RIGHT = ">>"
    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    AND = "and"
    OR = "or"
    NOT = "not"
    NEG = "neg"
    BIT_NOT = "~"
    SELECT = "select"  # both sides are evaluated
    IF_THEN_ELSE = "if_then_else"  # only the taken side is evaluated
    CAST = "cast"
    REINTERPRET = "reinterpret"
    LOAD = "load"
    CALL = "call"


class Rounding(Enum):
    """How a conversion to a narrower float rounds."""

    NEAREST_EVEN = "rn"
    TOWARD_ZERO = "rz"
    UP = "ru"
    DOWN = "rd"


COMPARISONS = frozenset({Op.EQ, Op.NE, Op.LT, Op.LE, Op.GT, Op.GE})
LOGICAL = frozenset({Op.AND, Op.OR, Op.NOT})
