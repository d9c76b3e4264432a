"""Functions that an expression can call (floor 2): the description only; the catalogue is `tilewright.intrin`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tilewright.dtypes import DType


@dataclass(frozen=True, eq=False, slots=True)
class Intrinsic:
    """A named function on scalars.

    name      as printed, `exp2`.
    arity     number of arguments.
    result    dtype of the result from those of the arguments.
    meaning   numpy arrays in (already of the argument dtypes), array out: the definition that every back end must match.
    is_pure   False where a call must happen exactly as often as written (random numbers, printing).
    ulp       the greatest error in units of the last place of the result that a back end may make; 0 means exact.
    """

    name: str
    arity: int
    result: Callable[[tuple[DType, ...]], DType]
    meaning: Callable[..., Any]
    is_pure: bool = True
    ulp: float = 0.0

    def __repr__(self) -> str:
        return f"intrinsic {self.name}"
