"""Where in the user's Python a traced call stands: exact columns from the running frame, with no code inserted (floor 0)."""

from __future__ import annotations

import linecache
import os
import re
import sys
from functools import lru_cache
from types import CodeType, FrameType

from tilewright.errors import Span

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# Programs that ship with the package are read as user code: a mistake in them is shown at their own line.
_USER_LIKE = tuple(_PACKAGE + name + os.sep for name in ("kernels",))


@lru_cache(maxsize=4096)
def _is_ours(file: str) -> bool:
    return file.startswith(_PACKAGE) and not file.startswith(_USER_LIKE)


@lru_cache(maxsize=1024)
def _positions(code: CodeType) -> tuple[tuple[int | None, int | None, int | None, int | None], ...]:
    return tuple(code.co_positions())


def is_user_file(file: str) -> bool:
    """Whether a frame of this file belongs to the user's program rather than to tilewright."""
    return not _is_ours(file)


def span_of_frame(frame: FrameType, instruction: int | None = None) -> Span:
    """The expression that `frame` is executing now (or at an instruction offset, as tracebacks keep it)."""
    at = frame.f_lasti if instruction is None else instruction
    line, end_line, column, end_column = _positions(frame.f_code)[at // 2] if at >= 0 else (None, None, None, None)
    return Span(frame.f_code.co_filename, line or frame.f_lineno or 1, column or 0, end_line or line or 0, end_column or 0)


def source_of(span: Span) -> str:
    """The text that a span covers on its first line; "" where the source is unknown."""
    raw = linecache.getline(span.file, span.line).encode()
    end = span.end_column if span.end_line == span.line else len(raw)
    return raw[span.column : end].decode(errors="replace").strip()


def callee_of(span: Span) -> str:
    """The function that a span calls, as the user wrote it: `T.copy` of `T.copy(A, B)`; "" where the span is no plain call."""
    found = re.match(r"[A-Za-z_][\w.]*(?=\s*\()", source_of(span))
    return found[0] if found else ""


def span_of_caller(is_program: frozenset[CodeType] = frozenset()) -> Span:
    """The innermost frame of user code above us; `expanded_from` chains the frames of `is_program` codes (macros, kernels) that called it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return Span("<unknown>", 1)
    span = span_of_frame(frame)
    if not is_program:
        return span
    outers: list[Span] = []
    outer = frame.f_back if frame.f_code in is_program else None
    while outer is not None:
        if outer.f_code in is_program:
            outers.append(span_of_frame(outer))
        outer = outer.f_back
    chain: Span | None = None
    for place in reversed(outers):
        chain = Span(place.file, place.line, place.column, place.end_line, place.end_column, chain)
    return Span(span.file, span.line, span.column, span.end_line, span.end_column, chain)
