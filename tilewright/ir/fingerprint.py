"""A name for what a program means (floor 2): equal programs of two processes have equal fingerprints, whatever their addresses and places.

Every dataclass field of every node counts but the user's line numbers and the hints, which change no result; so a field that is added to a node is in
the fingerprint by construction.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr
from tilewright.ir.intrinsic import Intrinsic
from tilewright.ir.program import Program

_IGNORED = frozenset({"span", "hints"})


@lru_cache(maxsize=256)
def _fields(kind: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind) if f.name not in _IGNORED)


def fingerprint(program: Program) -> str:
    """64 hexadecimal digits."""
    writer = _Writer()
    writer.write(program)
    return hashlib.sha256("\n".join(writer.parts).encode()).hexdigest()


class _Writer:
    """Writes nodes as text; what is shared (variables, buffers, expressions) is written once and then named by its number."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.numbers: dict[Any, int] = {}

    def write(self, root: Any) -> None:
        """Each node before what is in it. A stack of our own: sums that Python unrolled are deeper than Python's."""
        stack = [root]
        while stack:
            item = stack.pop()
            if isinstance(item, (Expr, Buffer)):
                number = self.numbers.get(item)
                if number is not None:
                    self.parts.append(f"#{number}")
                    continue
                self.numbers[item] = len(self.numbers)
            stack.extend(reversed(self._write_one(item)))

    def _write_one(self, item: Any) -> Sequence[Any]:
        """Writes what a node itself says; gives the nodes in it."""
        if isinstance(item, Expr):
            self.parts.append(f"{item.op.name} {item.dtype!s} {len(item.args)}")
            return (item.attribute, *item.args)
        if isinstance(item, Enum):
            self.parts.append(f"{type(item).__name__}.{item.name}")
        elif isinstance(item, Intrinsic):
            self.parts.append(f"intrinsic {item.name}")
        elif isinstance(item, tuple):
            self.parts.append(f"({len(item)}")
            return item
        elif dataclasses.is_dataclass(item) and not isinstance(item, type):
            self.parts.append(type(item).__name__)
            return [getattr(item, name) for name in _fields(type(item))]
        elif item is None or isinstance(item, (bool, int, float, str)):
            self.parts.append(f"{type(item).__name__} {item!r}")
        else:
            raise TypeError(f"a {type(item).__name__} in a program has no fingerprint")
        return ()
