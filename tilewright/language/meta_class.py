"""`T.meta_class`: classes whose methods write kernel code (floor 5; language.md 2)."""

from __future__ import annotations

import ast
import inspect
import textwrap
from types import FunctionType
from typing import TypeVar

from tilewright.errors import Kind, fail
from tilewright.ir.expr import describe_operand
from tilewright.language.function import Macro
from tilewright.spans import span_of_caller

Class = TypeVar("Class", bound=type)

_CONTROL = (ast.If, ast.While, ast.For)


def meta_class(cls: Class) -> Class:
    """A class that may be used inside kernels: its methods that store into buffers, branch or loop are traced into their callers, as T.inline does;
    others stay Python. State lives in `T.alloc_var`s that the instance holds: `self._count[0] += 1`.

    Raises TileError (not-a-prim-func) for anything but a class.
    """
    if not isinstance(cls, type):
        fail(
            Kind.NOT_A_PRIM_FUNC,
            f"T.meta_class was given {describe_operand(cls)}",
            span_of_caller(),
            because="it decorates a class",
            help="decorate a function with T.macro",
        )
    for name, member in list(vars(cls).items()):
        if isinstance(member, FunctionType) and not name.startswith("__") and _writes_code(member):
            setattr(cls, name, Macro(member))
    return cls


def _writes_code(function: FunctionType) -> bool:
    """Whether Python alone cannot run the function while a kernel is traced: it stores into elements, or decides something."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError:
        return False  # without its source it cannot be traced either
    return any(isinstance(node, _CONTROL) or (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)) for node in ast.walk(ast.parse(source)))
