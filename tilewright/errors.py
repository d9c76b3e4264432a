"""What went wrong, where, and what to do about it: diagnostics of tilewright (floor 0).

A mistake of the user's is a `TileError` that carries a `Diagnostic`; `str(error)` is the whole rendered text, with the user's source
lines and carets. A mistake of ours is a `CompilerBug`. Every kind of mistake is a member of `Kind`; its value is the stable code that
`tilewright explain CODE` takes.
"""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NoReturn

from tilewright.error_kinds import Category, Kind

__all__ = [
    "Category",
    "CompilerBug",
    "Diagnostic",
    "Kind",
    "Label",
    "Span",
    "TileError",
    "TileIndexError",
    "TileNameError",
    "TileNotImplementedError",
    "TileRuntimeError",
    "TileTypeError",
    "TileValueError",
    "error_of",
    "fail",
]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the user's source: lines from 1, columns from 0 (end exclusive), as Python's own AST counts them."""

    file: str
    line: int
    column: int = 0
    end_line: int = 0
    end_column: int = 0
    expanded_from: Span | None = None  # the call that expanded this macro or helper function

    def __str__(self) -> str:
        return f"{display_path(self.file)}:{self.line}:{self.column + 1}"


@dataclass(frozen=True, slots=True)
class Label:
    """A place with a remark to print beside its carets."""

    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One fact with its places, the rule behind it and one suggested edit."""

    kind: Kind
    message: str
    labels: tuple[Label, ...] = ()
    because: str | None = None
    help: str | None = None
    notes: tuple[str, ...] = field(default=())

    def render(self) -> str:
        """The text for a terminal: message, source lines with carets, rule, help."""
        lines = [f"error[{self.kind.value}]: {self.message}"]
        gutter = max([len(str(label.span.line)) for label in self.labels], default=1) + 2
        for group in _by_line(self.labels):
            lines += _excerpt(group, gutter)
        for note in self.notes:
            lines.append(f"  note: {note}")
        if self.because:
            lines.append(f"  because: {self.because}")
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


class TileError(Exception):
    """A mistake in a tile program or in a call of one. `diagnostic` holds the parts, `str()` the rendered text."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic)
        self.diagnostic = diagnostic

    def __str__(self) -> str:
        return self.diagnostic.render()

    @property
    def code(self) -> str:
        return str(self.diagnostic.kind.value)

    def add_call(self, span: Span) -> None:
        """Shows the call of a kernel that failed, before the places in the kernel."""
        if all(label.span != span for label in self.diagnostic.labels):
            self.diagnostic = replace(self.diagnostic, labels=(Label(span, "called here"), *self.diagnostic.labels))


class TileValueError(TileError, ValueError):
    """A value that the language does not allow there."""


class TileTypeError(TileError, TypeError):
    """An object of the wrong kind or dtype."""


class TileIndexError(TileError, IndexError):
    """An index or a region outside a buffer, or of the wrong rank."""


class TileNameError(TileError, NameError):
    """A name that does not exist."""


class TileRuntimeError(TileError, RuntimeError):
    """A failure when a compiled kernel was called or ran."""


class TileNotImplementedError(TileError, NotImplementedError):
    """A construct of the language that this target cannot do."""


class CompilerBug(Exception):
    """A fault of tilewright itself. The text asks for a report; `bundle` is the folder with what is needed to reproduce it."""

    def __init__(self, message: str, bundle: str | None = None) -> None:
        super().__init__(message)
        self.bundle = bundle

    def __str__(self) -> str:
        where = f" Please report it with the files in {self.bundle}." if self.bundle else " Please report it."
        return f"this is a fault of tilewright, not of your program: {self.args[0]}.{where}"


_SHOWN_EXPANSIONS = 4
_CLASS_OF: dict[Category, type[TileError]] = {
    Category.VALUE: TileValueError,
    Category.TYPE: TileTypeError,
    Category.INDEX: TileIndexError,
    Category.NAME: TileNameError,
    Category.RUNTIME: TileRuntimeError,
    Category.UNSUPPORTED: TileNotImplementedError,
}


def error_of(
    kind: Kind, message: str, span: Span | tuple[Label, ...] | None = None, *, because: str | None = None, help: str | None = None, notes: tuple[str, ...] = ()
) -> TileError:
    """The exception for one mistake; its class follows the kind's category."""
    labels = tuple(dict.fromkeys(span)) if isinstance(span, tuple) else () if span is None else (Label(span),)
    return _CLASS_OF[kind.category](Diagnostic(kind, message, labels, because, help, notes))


def fail(
    kind: Kind, message: str, span: Span | tuple[Label, ...] | None = None, *, because: str | None = None, help: str | None = None, notes: tuple[str, ...] = ()
) -> NoReturn:
    """Raise `error_of(...)`."""
    raise error_of(kind, message, span, because=because, help=help, notes=notes)


def display_path(file: str) -> str:
    """The file as a reader of the terminal would type it: relative when it lies below the working directory."""
    try:
        relative = os.path.relpath(file)
    except (ValueError, OSError):
        return file
    return file if relative.startswith("..") else relative


def _by_line(labels: tuple[Label, ...]) -> list[list[Label]]:
    """Labels on one source line share an excerpt; order of first appearance."""
    groups: dict[tuple[str, int], list[Label]] = {}
    for label in labels:
        groups.setdefault((label.span.file, label.span.line), []).append(label)
    return list(groups.values())


def _excerpt(group: list[Label], gutter: int) -> list[str]:
    span = group[0].span
    source = linecache.getline(span.file, span.line).rstrip("\n")
    lines = [f"  --> {span}"]
    if source.strip():
        text = source.expandtabs(1)
        lines.append(f"{span.line:>{gutter}} | {text}")
        margin = " " * gutter + " | "
        ordered = sorted(group, key=lambda label: label.span.column)
        marks = [" "] * len(text)
        for label in ordered:
            start, end = _caret_range(label.span, source)
            marks[start:end] = ["^"] * (end - start)
        last = ordered[-1]
        lines.append(f"{margin}{''.join(marks).rstrip()}{' ' + last.text if last.text else ''}")
        for label in reversed(ordered[:-1]):
            if label.text:
                lines.append(f"{margin}{' ' * _caret_range(label.span, source)[0]}{label.text}")
    else:
        lines += [f"      {label.text}" for label in group if label.text]
    outers = list(_expansions(span))
    for outer in outers[:_SHOWN_EXPANSIONS]:
        lines.append(f"  expanded from {outer}: {linecache.getline(outer.file, outer.line).strip()}")
    if len(outers) > _SHOWN_EXPANSIONS:
        lines.append(f"  and {len(outers) - _SHOWN_EXPANSIONS} calls above it")
    return lines


def _expansions(span: Span) -> Iterator[Span]:
    outer = span.expanded_from
    while outer is not None:
        yield outer
        outer = outer.expanded_from


def _caret_range(span: Span, source: str) -> tuple[int, int]:
    """Columns to underline: Python counts UTF-8 bytes, the terminal shows characters."""
    raw = source.encode()
    start = len(raw[: span.column].decode(errors="replace"))
    stop = span.end_column if span.end_line == span.line and span.end_column > span.column else len(raw)
    end = len(raw[:stop].decode(errors="replace"))
    return min(start, max(len(source) - 1, 0)), max(min(end, len(source)), min(start + 1, len(source)))
