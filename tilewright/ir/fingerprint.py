"""A name for what a program means (floor 2): equal programs of two processes have equal fingerprints, whatever their addresses and places.

Every dataclass field of every node counts but the user's line numbers, so a field that is added to a node is in the fingerprint by construction. Hints
count too: they change no result, but the code that is made for a GPU.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Any
from uuid import uuid4

import numpy as np

from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr
from tilewright.ir.intrinsic import Intrinsic
from tilewright.ir.program import Hint, Program
from tilewright.layout.annotations import FragmentAnnotation, LayoutAnnotation

_IGNORED = frozenset({"span"})


@lru_cache(maxsize=256)
def _fields(kind: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind) if f.name not in _IGNORED)


def fingerprint(program: Program) -> str:
    """64 hexadecimal digits."""
    writer = _Writer()
    writer.write(program)
    return hashlib.sha256("\n".join(writer.parts).encode()).hexdigest()


def _written(value: object) -> Any:
    """A value of a hint in terms of what has a fingerprint."""
    match value:
        case LayoutAnnotation():
            return "layout", value.memory
        case FragmentAnnotation():
            return "fragment", value.fragment
        case tuple() | list():
            return tuple(map(_written, value))
        case dict():
            return tuple((_written(k), _written(v)) for k, v in value.items())
        case None | bool() | int() | float() | str() | Enum() | Buffer() | Expr():
            return value
        case _:
            return f"{type(value).__name__} {uuid4().hex}"  # nobody knows what an object of the user's means: it is like no other


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
        elif isinstance(item, Hint):
            return (item.kind, tuple(map(_written, item.values)))
        elif isinstance(item, np.ndarray):
            self.parts.append(f"array {item.dtype} {item.shape} {hashlib.sha256(np.ascontiguousarray(item).tobytes()).hexdigest()}")
        elif dataclasses.is_dataclass(item) and not isinstance(item, type):
            self.parts.append(type(item).__name__)
            return [getattr(item, name) for name in _fields(type(item))]
        elif item is None or isinstance(item, (bool, int, float, str)):
            self.parts.append(f"{type(item).__name__} {item!r}")
        else:
            raise TypeError(f"a {type(item).__name__} in a program has no fingerprint")
        return ()
