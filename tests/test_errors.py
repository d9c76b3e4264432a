"""Diagnostics: classes, rendering of source lines with carets, expansions, faults of our own."""

from __future__ import annotations

import linecache
import os
from pathlib import Path

import pytest

from tilewright.errors import (
    Category,
    CompilerBug,
    Diagnostic,
    Kind,
    Label,
    Span,
    TileError,
    TileIndexError,
    TileNameError,
    TileNotImplementedError,
    TileRuntimeError,
    TileTypeError,
    TileValueError,
    display_path,
    error_of,
    fail,
)

FILE = "<errors of a test>"
SOURCE = ["T.copy(A, B)\n", "\tx = ä + T.gemm(a, b)  # §\n", "\n", "done()\n", "f(\n", "  1)\n"]


@pytest.fixture(autouse=True)
def _source() -> None:
    linecache.cache[FILE] = (sum(map(len, SOURCE)), None, SOURCE, FILE)


@pytest.mark.parametrize(
    ("category", "tile_class", "python_class"),
    [
        (Category.VALUE, TileValueError, ValueError),
        (Category.TYPE, TileTypeError, TypeError),
        (Category.INDEX, TileIndexError, IndexError),
        (Category.NAME, TileNameError, NameError),
        (Category.RUNTIME, TileRuntimeError, RuntimeError),
        (Category.UNSUPPORTED, TileNotImplementedError, NotImplementedError),
    ],
)
def test_an_error_is_also_pythons(category: Category, tile_class: type[TileError], python_class: type[Exception]) -> None:
    kind = next(k for k in Kind if k.category is category)
    error = error_of(kind, "wrong")
    assert type(error) is tile_class and isinstance(error, python_class) and error.code == kind.value
    with pytest.raises(tile_class, match="wrong"):
        fail(kind, "wrong")


def test_every_kind_has_a_class() -> None:
    assert all(isinstance(error_of(kind, "x"), TileError) for kind in Kind)


def test_the_whole_text() -> None:
    error = error_of(Kind.COPY_SHAPE, "the shapes differ", Span(FILE, 1, 0, 1, 12), because="they must not", help="change one", notes=("a note",))
    assert str(error) == (
        "error[copy-shape]: the shapes differ\n"
        f"  --> {FILE}:1:1\n"
        "  1 | T.copy(A, B)\n"
        "    | ^^^^^^^^^^^^\n"
        "  note: a note\n"
        "  because: they must not\n"
        "  help: change one"
    )
    assert str(error_of(Kind.COPY_SHAPE, "bare")) == "error[copy-shape]: bare"


def test_labels_of_one_line_share_it() -> None:
    a, b = Label(Span(FILE, 1, 7, 1, 8), "first"), Label(Span(FILE, 1, 10, 1, 11), "second")
    lines = str(error_of(Kind.COPY_SHAPE, "x", (b, a, a))).splitlines()
    assert lines[2:] == ["  1 | T.copy(A, B)", "    |        ^  ^ second", "    |        first"]


def test_labels_of_several_lines_and_columns_in_bytes() -> None:
    """Python counts columns in bytes of UTF-8; a tab takes one column of carets."""
    start = len("\tx = ä + ".encode())
    text = str(error_of(Kind.COPY_SHAPE, "x", (Label(Span(FILE, 2, start, 2, start + 12), "here"), Label(Span(FILE, 4, 0, 4, 6)))))
    assert "  2 |  x = ä + T.gemm(a, b)  # §\n    |          ^^^^^^^^^^^^ here\n" in text
    assert text.endswith("  4 | done()\n    | ^^^^^^")


def test_carets_stay_on_their_line() -> None:
    assert str(error_of(Kind.COPY_SHAPE, "x", Span(FILE, 5, 0, 6, 4))).endswith("  5 | f(\n    | ^^")
    assert str(error_of(Kind.COPY_SHAPE, "x", Span(FILE, 5, 90, 5, 95))).endswith("  5 | f(\n    |  ^")
    assert str(error_of(Kind.COPY_SHAPE, "x", Span(FILE, 5))).endswith("  5 | f(\n    | ^^")


def test_sources_that_are_not_there() -> None:
    assert str(error_of(Kind.COPY_SHAPE, "x", (Label(Span("<nowhere>", 3), "lost"),))).splitlines()[1:] == ["  --> <nowhere>:3:1", "      lost"]
    assert str(error_of(Kind.COPY_SHAPE, "x", Span(FILE, 3))).splitlines()[1:] == [f"  --> {FILE}:3:1"]


def test_expansions_are_shown_and_cut() -> None:
    outer = Span(FILE, 4, 0, 4, 6)
    assert str(error_of(Kind.COPY_SHAPE, "x", Span(FILE, 1, 0, 1, 12, outer))).endswith(f"  expanded from {FILE}:4:1: done()")
    span: Span | None = None
    for _ in range(8):
        span = Span(FILE, 4, 0, 4, 6, span)
    lines = str(error_of(Kind.COPY_SHAPE, "x", span)).splitlines()
    assert sum("expanded from" in line for line in lines) == 4 and lines[-1] == "  and 3 calls above it"


def test_paths_below_the_working_directory_are_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert display_path(str(tmp_path / "a" / "b.py")) == os.path.join("a", "b.py")
    assert display_path(str(tmp_path.parent / "b.py")) == str(tmp_path.parent / "b.py")


def test_faults_of_our_own_ask_for_a_report() -> None:
    assert str(CompilerBug("a loop without end")).startswith("this is a fault of tilewright, not of your program: a loop without end.")
    assert "/tmp/bundle" in str(CompilerBug("x", "/tmp/bundle")) and not isinstance(CompilerBug("x"), TileError)


def test_the_parts_of_an_error_can_be_read() -> None:
    error = error_of(Kind.COPY_SHAPE, "x", Span(FILE, 1), help="h")
    assert error.diagnostic == Diagnostic(Kind.COPY_SHAPE, "x", (Label(Span(FILE, 1)),), None, "h")
