"""Where in the user's Python a call stands."""

from __future__ import annotations

import linecache
import sys
from types import CodeType
from typing import Any

from tilewright.errors import Span
from tilewright.spans import callee_of, is_user_file, source_of, span_of_caller, span_of_frame

FILE = __file__


def here() -> Span:
    return span_of_caller()


def test_the_exact_columns_of_a_call() -> None:
    span = [here(), 2][0]
    assert isinstance(span, Span) and span.file == FILE and source_of(Span(span.file, span.line, 0, span.line, 200)).startswith("return span_of_caller()")


def outer(codes: frozenset[CodeType]) -> Span:
    return inner(codes)


def inner(codes: frozenset[CodeType]) -> Span:
    return span_of_caller(codes)


def test_expansions_chain_the_frames_of_the_program() -> None:
    span = outer(frozenset({outer.__code__, inner.__code__}))
    assert source_of(span) == "span_of_caller(codes)" and span.expanded_from is not None
    assert source_of(span.expanded_from) == "inner(codes)" and span.expanded_from.expanded_from is None
    assert outer(frozenset({outer.__code__})).expanded_from is None  # the innermost frame is no macro's
    assert outer(frozenset()).expanded_from is None


def test_source_and_callee() -> None:
    name = "<a file of spans>"
    linecache.cache[name] = (1, None, ["x = T.copy(A[0], B) + f (1)\n", "ä = g(\n", "  2)\n", "3 + 4\n"], name)
    assert source_of(Span(name, 1, 4, 1, 19)) == "T.copy(A[0], B)" and callee_of(Span(name, 1, 4, 1, 19)) == "T.copy"
    assert callee_of(Span(name, 1, 22, 1, 27)) == "f" and callee_of(Span(name, 1, 0, 1, 5)) == ""
    assert source_of(Span(name, 2, 5, 3, 4)) == "g(" and callee_of(Span(name, 2, 5, 3, 4)) == "g"
    assert callee_of(Span(name, 4, 0, 4, 5)) == "" and source_of(Span("<unknown>", 9)) == "" and callee_of(Span(name, 1, 11, 1, 15)) == ""


def test_functions_that_differ_only_in_their_columns() -> None:
    """Equal code objects, in files that are laid out differently, keep their own places."""
    spans = []
    for name, gap in (("<narrow>", " "), ("<wide>", "      ")):
        text = f"def f(g):\n    return{gap}g()\n"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        scope: dict[str, Any] = {}
        exec(compile(text, name, "exec"), scope)
        spans.append(scope["f"](lambda: span_of_frame(sys._getframe(1))))
    assert [s.column for s in spans] == [11, 16] and [s.file for s in spans] == ["<narrow>", "<wide>"]


def test_whose_files_are_whose() -> None:
    import tilewright.kernels.gemm
    import tilewright.spans

    assert is_user_file(FILE) and is_user_file("<stdin>") and not is_user_file(tilewright.spans.__file__)
    assert is_user_file(tilewright.kernels.gemm.__file__)  # programs that ship with the package are read as the user's


def test_a_frame_before_its_first_instruction() -> None:
    def generator() -> Any:
        yield

    frame = generator().gi_frame
    assert frame is not None and span_of_frame(frame, -1).line == frame.f_lineno
