"""What the trace of a function depends on, told before it is traced (floor 5): the key under which a traced program can be kept.

The key covers the source text and the line of the function and of every macro it reaches, the code of helper functions, the value of every closure cell
and global name that they read, and what the function is traced with. A value counts only if it can be told exactly and cannot change: numbers, strings,
dtypes, tuples of those, functions. One other value (a list, an instance of the user's class, a module that is passed around) and there is no key: then
the function is traced.
"""

from __future__ import annotations

import builtins
import dis
import platform
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from tilewright.disk_cache import cache_key, compiler_hash
from tilewright.dtypes import DType
from tilewright.errors import Span, TileError
from tilewright.ir.expr import Expr, Op
from tilewright.language.definitions import Expanded, Reads, definition_of
from tilewright.language.tensor import PointerSpec, TensorSpec
from tilewright.spans import is_user_file

# Everything in these modules is a constant of the Python version, or of tilewright's own sources, which are in the key.
_CONSTANT_MODULES = frozenset({"math", "operator", "tilewright"})
_CONSTANT_TYPES = frozenset({"builtins", "numpy", "ml_dtypes"})
# Functions without effects whose results depend on their arguments alone.
_PURE_BUILTINS = frozenset(
    {"abs", "all", "any", "bin", "callable", "chr", "divmod", "format", "hex", "isinstance", "issubclass", "iter", "len", "max", "min", "next", "oct", "ord"}
    | {"pow", "repr", "round", "sorted", "sum"}
)


# What functools.update_wrapper leaves on a macro.
_MACRO_FIELDS = {"function", "__wrapped__", "__module__", "__name__", "__qualname__", "__doc__", "__annotations__", "__type_params__", "__annotate__"}


@dataclass(frozen=True)
class Origin:
    """What a program is traced from.

    key     64 hexadecimal digits, the same in every process and wherever the source is installed.
    files   those that places in the program can lie in; the key counts them, but does not name them.
    """

    key: str
    files: tuple[str, ...]


class _UntellableError(Exception):
    """A value has no exact description."""


def origin_of(function: FunctionType, annotations: Mapping[str, Any], values: Mapping[str, Any]) -> Origin | None:
    """The origin of the program that tracing gives; None where it depends on something that cannot be told exactly.

    annotations  of the parameters, as objects.
    values       what else the function is traced with.
    """
    if sys.flags.optimize:
        return None  # Python drops asserts from helper functions, and what they read with them
    writer = _Writer()
    try:
        writer.traced(function)
        writer.mapping(annotations)
        writer.mapping(values)
    except (_UntellableError, TileError, RecursionError):
        return None
    python = f"{platform.python_implementation()} {platform.python_version()}"
    parts = {"trace": "\n".join(writer.parts), "compiler": compiler_hash(), "python": python, "numpy": np.__version__, "ml_dtypes": ml_dtypes.__version__}
    return Origin(cache_key(parts), tuple(writer.files))


class _Writer:
    """Writes descriptions; functions, files and variables are numbered in the order in which they are met."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.files: dict[str, int] = {}
        self.functions: dict[FunctionType, int] = {}
        self.variables: dict[Expr, int] = {}

    def write(self, *parts: object) -> None:
        # Lengths keep two descriptions from running into each other.
        self.parts += [f"{len(text)} {text}" for text in map(str, parts)]

    def mapping(self, values: Mapping[str, Any]) -> None:
        self.write("mapping", len(values))
        for name, value in values.items():
            self.write(name)
            self.value(value)

    # -- functions
    def traced(self, function: FunctionType) -> None:
        """A function that is traced from its source: a kernel or a macro."""
        if self.is_known(function):
            return
        code = function.__code__
        definition = definition_of(code)
        self.write("traced", code.co_qualname, self.file(code.co_filename), code.co_firstlineno, definition.text)
        self.surroundings(function, definition.reads)

    def helper(self, function: FunctionType) -> None:
        """A function that is only called: what runs is its code, whatever its source says by now."""
        if self.is_known(function):
            return
        self.write("helper")
        self.code(function.__code__)
        self.surroundings(function, _reads_of_code(function.__code__))

    def is_known(self, function: FunctionType) -> bool:
        """Whether the function was met before; functions may call each other."""
        is_new = function not in self.functions
        self.write("function", self.functions.setdefault(function, len(self.functions)))
        return not is_new

    def code(self, code: CodeType) -> None:
        arguments = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
        self.write("code", code.co_qualname, self.file(code.co_filename), code.co_firstlineno, arguments, names)
        self.write(code.co_code.hex(), code.co_linetable.hex(), code.co_exceptiontable.hex())
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self.code(constant)
            else:
                self.value(tuple(sorted(constant, key=repr)) if isinstance(constant, frozenset) else constant)

    def surroundings(self, function: FunctionType, reads: Reads) -> None:
        """Defaults, closure cells and the globals that the function reads."""
        if not reads.is_complete:
            raise _UntellableError
        self.value(function.__defaults__)
        self.mapping(function.__kwdefaults__ or {})
        self.mapping(function.__dict__)  # attributes of a function are a place to keep settings
        code = function.__code__
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        local = {*code.co_varnames, *code.co_cellvars}
        for root, *attributes in reads.chains:
            if root in local:
                continue
            self.write(root, attributes)
            if root in cells:
                self.cell(cells[root], attributes)
            elif root in function.__globals__:
                self.chain(function.__globals__[root], attributes)
            elif hasattr(builtins, root):
                self.chain(getattr(builtins, root), attributes)
            else:
                self.write("unbound")
        # Cells that no chain names are read by what is nested in the function.
        named = {chain[0] for chain in reads.chains}
        for name, cell in cells.items():
            if name not in named:
                self.write(name)
                self.cell(cell, [])

    def cell(self, cell: Any, attributes: list[str]) -> None:
        try:
            value = cell.cell_contents
        except ValueError:
            self.write("unbound")
            return
        self.chain(value, attributes)

    def chain(self, value: Any, attributes: list[str]) -> None:
        """A value and the attributes that are read of it: of a module only these count."""
        for name in attributes:
            if not isinstance(value, ModuleType) or _is_constant_module(value):
                break
            if not hasattr(value, name):
                self.write("missing", name)
                return
            value = getattr(value, name)
        self.value(value)

    # -- values
    def value(self, value: Any) -> None:
        kind = type(value)
        if value is None or value is Ellipsis or value is NotImplemented or kind in (bool, int, str, bytes, range):
            self.write(kind.__name__, repr(value))
        elif kind is float:
            self.write("float", struct.pack("<d", value).hex())
        elif kind is complex:
            self.write("complex", struct.pack("<dd", value.real, value.imag).hex())
        elif kind is DType:
            self.write("dtype", str(value))
        elif kind is tuple:
            self.write("tuple", len(value))
            for item in value:
                self.value(item)
        elif kind is FunctionType:
            self.function(value)
        elif kind is Expr:
            self.expression(value)
        elif kind is TensorSpec:
            self.write("tensor")
            self.span(value.span)
            for part in (value.shape, value.strides, value.dtype):
                self.value(part)
        elif kind is PointerSpec:
            self.write("pointer")
        elif isinstance(value, Expanded) and _is_ours(kind.__module__):
            if vars(value).keys() - _MACRO_FIELDS:
                raise _UntellableError
            self.write("macro")
            self.mapping({name: _is_reference(annotation) for name, annotation in value.function.__annotations__.items()})
            self.traced(value.function)
        elif isinstance(value, Enum) and _is_ours(kind.__module__):
            self.write("enum", kind.__module__, kind.__qualname__, value.name)
        elif isinstance(value, ModuleType) and _is_constant_module(value):
            self.write("module", value.__name__)
        elif isinstance(value, type) and (value.__module__ in _CONSTANT_TYPES or _is_ours(value.__module__)):
            self.write("type", value.__module__, value.__qualname__)
        elif kind is BuiltinFunctionType:
            self.builtin(value)
        elif isinstance(value, np.dtype) and value.fields is None:
            self.write("numpy dtype", value.str, value.name)
        elif isinstance(value, np.generic) and kind.__module__ == "numpy" and kind is not np.void:
            self.write("numpy scalar", value.dtype.str, value.tobytes().hex())
        elif isinstance(value, np.ufunc):
            self.ufunc(value.__name__, value)
        elif kind.__module__ == "torch" and kind.__qualname__ == "dtype":
            self.write("torch dtype", str(value))
        else:
            raise _UntellableError

    def function(self, value: FunctionType) -> None:
        if is_user_file(value.__code__.co_filename):
            self.helper(value)
        elif "<locals>" in value.__qualname__:
            raise _UntellableError  # made by tilewright at run time, with cells of its own
        else:
            self.write("ours", value.__module__, value.__qualname__)

    def builtin(self, value: BuiltinFunctionType) -> None:
        module, name = value.__module__ or "", value.__name__
        is_pure = name in _PURE_BUILTINS if module == "builtins" else module in _CONSTANT_MODULES | {"_operator"}
        if not is_pure or getattr(sys.modules.get(module), name, None) is not value:
            raise _UntellableError
        self.write("builtin", module, name)

    def ufunc(self, name: str, value: Any) -> None:
        if getattr(np, name, None) is not value:
            raise _UntellableError
        self.write("ufunc", name)

    def expression(self, value: Expr) -> None:
        """Symbols and sums of them."""
        self.write(value.op.name, value.dtype, len(value.args))
        if value.op is Op.VAR:
            self.write(self.variables.setdefault(value, len(self.variables)))
        elif value.op in (Op.LOAD, Op.CALL):
            raise _UntellableError
        if not isinstance(value.attribute, Enum):
            self.value(value.attribute)
        else:
            self.write(value.attribute.name)
        for argument in value.args:
            self.expression(argument)

    def span(self, span: Span) -> None:
        if span.expanded_from is not None:
            raise _UntellableError
        self.write(self.file(span.file), span.line, span.column, span.end_line, span.end_column)

    def file(self, name: str) -> int:
        return self.files.setdefault(name, len(self.files))


def _is_reference(annotation: Any) -> str:
    """What a macro asks of the annotation of a parameter."""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__qualname__", "")


def _is_ours(module: str) -> bool:
    return module.split(".", 1)[0] == "tilewright"


def _is_constant_module(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return module.__name__ in _CONSTANT_MODULES or (_is_ours(module.__name__) and file is not None and not is_user_file(file))


def _reads_of_code(code: CodeType) -> Reads:
    """The same as `Definition.reads`, for code without its source."""
    chains: set[tuple[str, ...]] = set()
    is_complete = True
    chain: tuple[str, ...] = ()
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if chain and name in ("LOAD_ATTR", "LOAD_METHOD"):
            chain = (*chain, instruction.argval)
            continue
        if chain:
            chains.add(chain)
        is_read = "GLOBALS" in name or name in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF")
        chain = (instruction.argval,) if is_read else ()
        is_nonlocal = name in ("STORE_DEREF", "DELETE_DEREF") and instruction.argval in code.co_freevars
        if is_nonlocal or name in ("IMPORT_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
            is_complete = False
    if chain:
        chains.add(chain)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _reads_of_code(constant)
            chains |= set(inner.chains)
            is_complete = is_complete and inner.is_complete
    return Reads(tuple(sorted(chains)), is_complete)
