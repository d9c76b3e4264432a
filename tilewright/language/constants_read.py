"""The plain values around a function: what its kernels are compiled for besides its arguments (floor 5).

A number of the module or of an enclosing function is part of the program that is traced. When it changes, the program is another one.
"""

from __future__ import annotations

from enum import Enum
from types import CellType, FunctionType
from typing import Any

from tilewright.dtypes import DType
from tilewright.language.mistakes import nested_codes
from tilewright.spans import is_user_file

_PLAIN = (int, float, complex, str, bytes, type(None), DType, Enum)
_MOST = 256  # places: more than any kernel has, and a bound for what each call costs


class ConstantsRead:
    """Names of modules and cells that a function reads, itself or through the functions and macros that it names."""

    def __init__(self, function: Any) -> None:
        self.globals: list[tuple[dict[str, Any], str]] = []
        self.cells: list[CellType] = []
        self._add(function, set())

    def _add(self, function: Any, seen: set[Any]) -> None:
        function = getattr(function, "__wrapped__", function)
        if not isinstance(function, FunctionType) or function in seen or not is_user_file(function.__code__.co_filename):
            return
        if len(self.globals) + len(self.cells) > _MOST:
            return
        seen.add(function)
        cells = function.__closure__ or ()
        self.cells += cells
        names = [(function.__globals__, n) for code in nested_codes(function.__code__) for n in code.co_names if n in function.__globals__]
        self.globals += sorted(names, key=lambda place: place[1])
        for value in (*(module[n] for module, n in names), *map(_content, cells)):
            self._add(value, seen)

    def now(self) -> tuple[Any, ...]:
        """What they hold now, hashable; what is neither plain nor made of plain values does not count."""
        return (*(_frozen(module.get(n)) for module, n in self.globals), *(_frozen(_content(cell)) for cell in self.cells))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned yet
        return None


def _frozen(value: Any) -> Any:
    """A stand-in that tells 1, 1.0 and True apart, and is equal to itself for NaN."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    return None


__all__ = ["ConstantsRead"]
