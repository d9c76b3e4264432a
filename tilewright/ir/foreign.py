"""Code in the language of a GPU that a program calls or contains (floor 2; language.md 12). Compilers know only what is declared of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from tilewright.ir.expr import Expr
from tilewright.ir.instruction import Access
from tilewright.ir.stmt import Stmt
from tilewright.ir.thread import Address


class ForeignKind(Enum):
    """How the code is named."""

    FUNCTION = "call_extern"
    ASSEMBLY = "ptx"


@dataclass(frozen=True, slots=True)
class Reach:
    """What the code may do with the memory behind an address.

    is_element   it touches the element itself and nothing beside it; False: anything in the buffer.
    """

    access: Access
    is_element: bool = False


@dataclass(frozen=True, eq=False)
class ForeignCall(Stmt):
    """A call of a function of the target's language, or inline assembly. It happens as often as it stands there, on every thread that comes.

    text        the name of the function; the template of the assembly, whose %0 is the result where there is one, and whose next operands are the arguments.
    arguments   values, and addresses of elements.
    reaches     of each argument; None for a value.
    result      named for the rest of the sequence; None where it gives nothing.
    """

    kind: ForeignKind
    text: str
    arguments: tuple[Expr | Address, ...]
    reaches: tuple[Reach | None, ...]
    result: Expr | None = None

    def addresses(self) -> Iterator[tuple[Address, Reach]]:
        """The arguments that lead to memory."""
        for argument, reach in zip(self.arguments, self.reaches, strict=True):
            if isinstance(argument, Address) and reach is not None:
                yield argument, reach

    def at(self, change: Callable[[Address], Address]) -> ForeignCall:
        """The same call with other addresses."""
        return dataclasses.replace(self, arguments=tuple(change(a) if isinstance(a, Address) else a for a in self.arguments))
