"""Expressions as Python text (floor 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tilewright import dtypes
from tilewright.ir.operation import COMPARISONS, Op, Rounding

if TYPE_CHECKING:
    from tilewright.ir.expr import Expr

_PRECEDENCE = {
    Op.OR: 1,
    Op.AND: 2,
    Op.NOT: 3,
    **dict.fromkeys(COMPARISONS, 4),
    Op.BIT_OR: 5,
    Op.BIT_XOR: 6,
    Op.BIT_AND: 7,
    Op.SHIFT_LEFT: 8,
    Op.SHIFT_RIGHT: 8,
    Op.ADD: 9,
    Op.SUB: 9,
    Op.MUL: 10,
    Op.DIV: 10,
    Op.FLOORDIV: 10,
    Op.FLOORMOD: 10,
    Op.NEG: 11,
    Op.BIT_NOT: 11,
}


def print_expr(node: Expr, name_of: Any = None, parent: int = 0) -> str:
    """The expression as Python text; `name_of` gives variables and buffers names that are unique within a program."""

    def show(x: Expr, level: int = 0) -> str:
        return print_expr(x, name_of, level)

    match node.op:
        case Op.CONST:
            if node.dtype in (dtypes.int32, dtypes.float32, dtypes.bool_):
                return repr(node.value)
            return f"{node.dtype!s}({node.value!r})"
        case Op.VAR:
            return name_of(node) if name_of else node.name
        case Op.LOAD:
            return f"{name_of(node.buffer) if name_of else node.buffer.name}[{', '.join(show(i) for i in node.args)}]"
        case Op.CALL:
            return f"{node.attribute.name}({', '.join(show(a) for a in node.args)})"
        case Op.CAST | Op.REINTERPRET:
            suffix = "" if node.attribute in (None, Rounding.NEAREST_EVEN) else f", {node.attribute.value}"
            return f"{node.op.value}({show(node.args[0])}, {node.dtype!s}{suffix})"
    level = _PRECEDENCE.get(node.op)
    if level is None:
        return f"{node.op.value}({', '.join(show(a) for a in node.args)})"
    if len(node.args) == 1:
        text = f"{'-' if node.op is Op.NEG else '~' if node.op is Op.BIT_NOT else 'not '}{show(node.args[0], level + 1)}"
    else:
        # Python reads `a < b == c` as a chain, so the left side of a comparison is no comparison without parentheses.
        text = f"{show(node.args[0], level + (node.op in COMPARISONS))} {node.op.value} {show(node.args[1], level + 1)}"
    return f"({text})" if level < parent else text
