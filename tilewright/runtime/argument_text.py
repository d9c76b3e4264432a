"""How messages about arguments name objects, shapes and dtypes (floor 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from tilewright.errors import Kind, Label, fail
from tilewright.ir.buffer import format_shape
from tilewright.ir.program import Parameter

_LONGEST_VALUE = 40


def refuse(kind: Kind, message: str, *parameters: Parameter, because: str, help: str) -> NoReturn:
    """Raises the TileError of one broken rule, with the declarations of the parameters that it is about."""
    fail(kind, message, tuple(label(p) for p in dict.fromkeys(parameters)), because=because, help=help)


def label(parameter: Parameter) -> Label:
    """Where a parameter is declared, and as what."""
    return Label(parameter.span, f"{parameter.name}: {declared_type(parameter)}")


def declared_type(parameter: Parameter) -> str:
    """`float32[n, 64]`, the dtype of a scalar, or `T.ptr`."""
    if parameter.buffer is not None:
        strides = parameter.buffer.given_strides
        return format_shape(parameter.buffer) + ("" if strides is None else f" with strides {tuple_text(strides)}")
    return "T.ptr" if parameter.variable is None or parameter.variable.dtype == "handle" else str(parameter.variable.dtype)


def describe(argument: Any) -> str:
    """A short noun phrase for any object; never fails."""
    kind = type(argument)
    if argument is None:
        return "None"
    if kind in (bool, int, float, complex, str, bytes):
        text = repr(argument) if kind is not int or abs(argument) < 1 << 64 else ""
        return text if 0 < len(text) <= _LONGEST_VALUE else f"a Python {kind.__name__}"
    if issubclass(kind, np.ndarray):
        return f"a numpy array of {dimensions(argument.shape)}"
    if issubclass(kind, np.generic) and not issubclass(kind, (np.void, np.object_)):
        return f"{argument.dtype.name} {argument}"
    return with_article(kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}")


def dimensions(shape: Sequence[int]) -> str:
    """`2 dimensions (8, 8)`."""
    return f"{plural(len(shape), 'dimension')} {tuple_text(shape)}"


def tuple_text(values: Sequence[object]) -> str:
    return f"({', '.join(map(str, values))}{',' * (len(values) == 1)})"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def joined(names: Sequence[str]) -> str:
    """`X`, `X and Y`, `X, Y and Z`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def with_article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeio' else 'a'} {noun}"
