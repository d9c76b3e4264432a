"""Finds the `def` of a function in its source, and which names from outside it reads (floor 5).

Only the lines of the function itself are parsed, not its whole file.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import CodeType
from typing import Any

from tilewright.errors import Kind, Span, fail

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_MOST_ATTEMPTS = 100


class Expanded:
    """What is traced into its caller: a macro."""

    function: Any  # a FunctionType, which a type checker would take for a method


@dataclass(frozen=True, eq=False)
class Definition:
    """One `def` with its decorators.

    text   its lines.
    """

    node: ast.FunctionDef
    text: str

    @cached_property
    def reads(self) -> Reads:
        """What the body reads by name. Ask before the tree is rewritten."""
        return _reads_of(self.node)


@dataclass(frozen=True)
class Reads:
    """Names that a function loads, each with the attributes that follow it: `np.random.rand` is ("np", "random", "rand").

    is_complete   False where it also reaches what has no such name: it imports, or binds names outside itself.
    """

    chains: tuple[tuple[str, ...], ...]
    is_complete: bool


def definition_of(code: CodeType) -> Definition:
    """The definition of a function's code. TileError where there is no source, and for what cannot be a kernel."""
    lines = linecache.getlines(code.co_filename)
    if not lines:
        linecache.checkcache(code.co_filename)
        try:
            lines = inspect.findsource(code)[0]
        except (OSError, TypeError):
            lines = []
    found = _find("".join(lines), code.co_firstlineno, code.co_name) if lines else None
    if found is not None:
        node = found.node
        if isinstance(node, ast.AsyncFunctionDef):
            fail(
                Kind.STATEMENT,
                f"{node.name} is an `async def`",
                Span(code.co_filename, node.lineno, node.col_offset, node.lineno, node.col_offset + len("async def")),
                because="a kernel is traced once, from its first to its last statement",
                help="write a plain `def`",
            )
        return found
    if code.co_name == "<lambda>":
        fail(
            Kind.NOT_A_PRIM_FUNC,
            "a lambda cannot be traced",
            Span(code.co_filename, code.co_firstlineno),
            because="a kernel is traced from the source of a `def`",
            help="write it as a function",
        )
    fail(
        Kind.NO_SOURCE,
        f"the source of {code.co_name} (line {code.co_firstlineno} of {code.co_filename}) cannot be found",
        Span(code.co_filename, code.co_firstlineno),
        because="a kernel is traced from its source text, as Python's inspect module finds it",
        help="define the kernel in a file, a notebook cell or anything that linecache knows; for exec, register the text in linecache",
    )


@lru_cache(maxsize=256)
def _find(source: str, first_line: int, name: str) -> Definition | None:
    lines = [f"{line}\n" for line in source.split("\n")]  # str.splitlines would also split at form feeds and the like
    if first_line <= len(lines):
        found = _parse_lines(lines, first_line)
        if found is not None and found.node.name == name:
            return found
    for node in ast.walk(_parse(source) or ast.Module([], [])):
        if isinstance(node, FUNCTIONS) and node.name == name:
            start = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            if first_line in (start, node.lineno):
                return Definition(node, "".join(lines[start - 1 : node.end_lineno]))  # type: ignore[arg-type]
    return None


def _parse_lines(lines: list[str], first_line: int) -> Definition | None:
    """The `def` that begins with this line. It ends before a line that is not indented more, unless that line continues a bracket or a string: then what
    stands before it is no Python."""
    head = lines[first_line - 1]
    indentation = len(head) - len(head.lstrip(" \t"))
    # Empty lines keep the numbers of the lines; a nested function needs something to be nested in.
    frame = "\n" * (first_line - 2) + "if 1:\n" if indentation and first_line > 1 else "\n" * (first_line - 1)
    attempts = 0
    for end in range(first_line, len(lines) + 1):
        if end < len(lines):
            bare = lines[end].lstrip(" \t\f")
            if bare[:1] in ("#", "\n", "\r", "") or len(lines[end]) - len(bare) > indentation or lines[end - 1].startswith("@", indentation):
                continue
        attempts += 1
        text = "".join(lines[first_line - 1 : end])
        try:
            tree = ast.parse(frame + text)
        except (SyntaxError, ValueError):
            if attempts == _MOST_ATTEMPTS:
                return None
            continue
        if not tree.body:
            return None
        statement = tree.body[0]
        inner = statement.body[0] if isinstance(statement, ast.If) else statement
        return Definition(inner, text) if isinstance(inner, FUNCTIONS) else None  # type: ignore[arg-type]
    return None


@lru_cache(maxsize=64)
def _parse(source: str) -> ast.Module | None:
    for text in (source, textwrap.dedent(source)):
        try:
            return ast.parse(text)
        except SyntaxError:
            continue
    return None


def _reads_of(function: ast.FunctionDef) -> Reads:
    """Of the body: what decorators, annotations of parameters and defaults read was read before the function is traced."""
    chains: dict[tuple[str, ...], None] = {}
    is_complete = True
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        kind = type(node)
        if kind is ast.Attribute:
            names: list[str] = []
            inner: ast.expr = node  # type: ignore[assignment]
            while type(inner) is ast.Attribute:
                names.append(inner.attr)
                inner = inner.value
            if type(inner) is ast.Name:
                chains[inner.id, *reversed(names)] = None
            else:
                pending.append(inner)
            continue
        if kind is ast.Name:
            if type(node.ctx) is ast.Load:  # type: ignore[attr-defined]
                chains[(node.id,)] = None  # type: ignore[attr-defined]
            continue
        if kind in (ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal):
            is_complete = False
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, list):
                pending.extend(item for item in value if isinstance(item, ast.AST))
            elif isinstance(value, ast.AST) and value._fields:
                pending.append(value)
    return Reads(tuple(sorted(chains)), is_complete)
