"""What a Python name stands for while a kernel is traced (floor 5): a value, one that a loop may carry, or none that may be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tilewright.dtypes import DType
from tilewright.errors import Span

Reader = Callable[[], Any]
Place = tuple[Any, ...]  # a name, and where it is changed: line, column, end line, end column


class Unbound(Enum):
    """What a name without a value gives."""

    UNBOUND = 0


class PoisonReason(Enum):
    """Why a name has no value where it is read."""

    UNBOUND = "is not bound"
    BRANCH = "was bound inside a branch that is decided when the kernel runs"
    LOOP = "was bound inside a loop"


@dataclass(frozen=True)
class Poison:
    """The value of a name that may not be read here, with the reason to report."""

    reason: PoisonReason
    span: Span

    def describe(self) -> str:
        return f"a name that {self.reason.value} (line {self.span.line})"


@dataclass(frozen=True, eq=False)
class Carried:
    """The value of a scalar's name at the start of a loop's body: right in every turn, unless the body binds the name after reading it."""

    value: Any
    reads: list[Span]

    def describe(self) -> str:
        return "a name that a loop binds"


def peek(reader: Reader) -> Any:
    """The value of a Python name now, or UNBOUND."""
    try:
        return reader()
    except NameError:
        return Unbound.UNBOUND


def bound(value: Any, span: Span) -> Any:
    """The value of a name, in a form that may be stored: UNBOUND becomes a Poison of the place."""
    return Poison(PoisonReason.UNBOUND, span) if value is Unbound.UNBOUND else value


def is_same_value(a: Any, b: Any) -> bool:
    """One value for the kernel: one object, or equal constants. Two unbound names are alike."""
    a, b = a.value if isinstance(a, Carried) else a, b.value if isinstance(b, Carried) else b
    if isinstance(a, Poison) and isinstance(b, Poison):
        return a.reason is b.reason
    return a is b or (type(a) is type(b) and isinstance(a, (bool, int, float, str, DType)) and a == b)


def variable_help(name: str) -> str:
    """The edit that lets a name change when the kernel runs."""
    return f"declare `{name} = T.alloc_var(dtype, init=...)` before it: assignments to a variable are stores"
