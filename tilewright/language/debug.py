"""Looking inside a running kernel (floor 5; language.md 11)."""

from __future__ import annotations

from typing import Any

from tilewright.errors import Kind, Span, fail
from tilewright.ir.buffer import Buffer, Region, Scope
from tilewright.ir.expr import Expr, as_condition, as_expr, describe_operand
from tilewright.ir.stmt import Assert, Print
from tilewright.language.builder import program_builder


def print(obj: Any = None, msg: str = "", warp_group_id: int = 0, warp_id: int = 0) -> None:
    """Prints a value, or all elements of a buffer, when the kernel runs; `obj=None` prints the message alone."""
    builder = program_builder()
    span = builder.here()
    if isinstance(obj, str):
        if not isinstance(msg, str):
            fail(
                Kind.OPTION_VALUE,
                f"T.print was given the text {obj!r} before {describe_operand(msg)}",
                span,
                because="it takes the value first, then the text",
                help=f"write T.print({msg.name if isinstance(msg, Buffer) else msg}, {obj!r})",
            )
        obj, msg = (None, obj) if not msg else (obj, msg)
    _check_message(msg, span)
    if isinstance(obj, Buffer) and obj.scope is not Scope.VARIABLE:
        builder.emit(Print(span, msg or obj.name, tuple(n for n in obj.shape if isinstance(n, Expr)), obj))
    elif isinstance(obj, Region) and any(obj.is_slice):
        builder.emit(Print(span, msg or str(obj), (), obj.buffer))
    else:
        builder.emit(Print(span, msg, () if obj is None else (as_expr(obj),)))


def _check_message(msg: Any, span: Span) -> None:
    if not isinstance(msg, str):
        fail(
            Kind.OPTION_VALUE,
            f"msg is {describe_operand(msg)}",
            span,
            because="the message is text that is fixed when the kernel is compiled",
            help="give a string; T.print shows values as its first argument",
        )


def device_assert(condition: Any, msg: str = "", no_stack_info: bool = False) -> None:
    """Stops the kernel where the condition does not hold; the call of the kernel raises TileError (device-assert) with this line."""
    builder = program_builder()
    _check_message(msg, builder.here())
    if isinstance(condition, bool):
        if condition:
            return
        condition = as_expr(condition)
    builder.emit(Assert(builder.here(), as_condition(condition), msg))
