"""Exceptions of Python's: whose they are, and what becomes of them. The texts are in tests/errors."""

from __future__ import annotations

import inspect
import traceback

import pytest

import tilewright.language as T
from tilewright.errors import CompilerBug, Kind, Span, TileError
from tilewright.language import mistakes
from tilewright.language.builder import ProgramBuilder
from tilewright.language.mistakes import bind_arguments

HERE = Span(__file__, 1, 0, 1, 1)


class OwnError(Exception):
    """An exception of the user's."""


def traced(action) -> None:
    @T.prim_func
    def kernel(X: T.Tensor((8,), "float32")):
        with T.Kernel(1):
            action(X)


def test_what_the_user_raises_passes_with_its_own_frames_only() -> None:
    def fails(X):
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine") as caught:
        traced(fails)
    places = traceback.extract_tb(caught.value.__traceback__)
    assert [place.name for place in places[-2:]] == ["kernel", "fails"]
    assert places[-1].filename == __file__


def test_a_raise_in_the_kernel_passes_and_keeps_its_cause() -> None:
    with pytest.raises(OwnError) as caught:

        @T.prim_func
        def kernel(X: T.Tensor((8,), "float32")):
            try:
                {}["key"]
            except KeyError as error:
                raise OwnError("mine") from error

    assert isinstance(caught.value.__cause__, KeyError)


def test_a_failed_assertion_on_python_values_is_the_users() -> None:
    size = 7
    with pytest.raises(AssertionError, match="7 is no multiple of 4"):

        @T.prim_func
        def kernel(X: T.Tensor((8,), "float32")):
            assert size % 4 == 0, f"{size} is no multiple of 4"


def test_an_exception_inside_a_macro_is_translated_once() -> None:
    @T.macro
    def look_up(X):
        {}["key"]

    with pytest.raises(TileError) as caught:
        traced(look_up)
    assert caught.value.diagnostic.kind is Kind.PYTHON_ERROR
    assert caught.value.diagnostic.message == "KeyError: 'key'"
    assert caught.value.diagnostic.labels[0].span.line == inspect.getsourcelines(look_up.function)[1] + 2


def test_an_exception_in_a_helper_function_is_the_users() -> None:
    with pytest.raises(KeyError):
        traced(lambda X: {}["key"])


def test_an_exception_of_ours_is_a_compiler_bug_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    # A function of no file of the user's stands for one of ours.
    monkeypatch.setattr(mistakes, "is_user_file", lambda file: file == __file__)
    monkeypatch.setattr(ProgramBuilder, "emit", eval("lambda self, stmt: 1 // 0"))
    with pytest.raises(CompilerBug, match="ZeroDivisionError") as caught:
        traced(lambda X: X.__setitem__(0, 1))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("args", "kwargs", "kind", "words"),
    [
        ((), {}, Kind.MISSING_ARGUMENT, "without `a`"),
        ((1,), {}, Kind.MISSING_ARGUMENT, "without `b`"),
        ((1, 2, 3, 4), {}, Kind.UNKNOWN_ARGUMENT, "too many arguments: 4"),
        ((1, 2), {"colour": 3}, Kind.UNKNOWN_ARGUMENT, "no argument `colour`"),
        ((1, 2), {"a": 3}, Kind.UNKNOWN_ARGUMENT, "`a` twice"),
    ],
)
def test_arguments_that_do_not_fit(args, kwargs, kind: Kind, words: str) -> None:
    def function(a, b, color=0):
        return a, b, color

    with pytest.raises(TileError) as caught:
        bind_arguments("function", inspect.signature(function), args, kwargs, HERE)
    assert caught.value.diagnostic.kind is kind
    assert words in caught.value.diagnostic.message
    if "colour" in kwargs:
        assert caught.value.diagnostic.help == "did you mean `color`?"


def test_arguments_that_fit_get_their_defaults() -> None:
    def function(a, *, b=3):
        return a, b

    signature = inspect.signature(function)
    assert bind_arguments("function", signature, (1,), {}, HERE).arguments == {"a": 1, "b": 3}
    assert bind_arguments("function", signature, (), {"b": 4}, HERE, is_partial=True).arguments == {"b": 4}


def test_a_method_is_not_called_with_its_object() -> None:
    with pytest.raises(TileError) as caught:
        bind_arguments("f", inspect.signature(lambda self, A: None), (3,), {}, HERE)
    assert "make it a function or a staticmethod" in str(caught.value)
