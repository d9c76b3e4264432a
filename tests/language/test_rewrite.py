"""The rewritten function: the same places, closures and defaults as the user's, and what is found in its source."""

from __future__ import annotations

import ast
from types import FunctionType
from typing import Any

import pytest

import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.language.rewrite import TRACER, annotated_names, annotation_nodes, has_inner_prim_func, require_function, rewrite_function

SCALE = 3


class Recorder:
    """Stands for a tracer: runs what rewritten code hands over as Python would, and notes the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def record(*args: Any) -> Any:
            self.calls.append(name)
            if name == "bind":
                return args[1]
            if name == "read":
                return args[1]
            if name in ("snapshot", "returning"):
                return args[0]
            if name == "ternary":
                return args[1]() if args[0] else args[2]()
            if name == "all_of":
                return all(part() for part in args)
            if name == "negate":
                return not args[0]
            raise AssertionError(f"{name} was not expected")

        return record


def traced(function: Any, *args: Any, **kwargs: Any) -> tuple[Any, list[str]]:
    recorder = Recorder()
    return rewrite_function(function).bind(recorder)(*args, **kwargs), recorder.calls


def test_bindings_ternaries_and_operators_go_through_the_tracer() -> None:
    def function(a, b):
        c = a + b
        return c if a < c and not b > c else b

    result, calls = traced(function, 2, 5)
    assert result == 7 and sorted(calls) == ["all_of", "bind", "negate", "returning", "ternary"]


def test_closures_globals_defaults_and_keywords_are_the_functions_own() -> None:
    offset = 10

    def function(a, b=4, *, c=100):
        return a * SCALE + b + offset + c

    rewritten = rewrite_function(function)
    made = rewritten.bind(Recorder())
    assert made(1) == 3 + 4 + 10 + 100 and made(1, 0, c=0) == 13
    offset = 20
    assert made(1, 0, c=0) == 23  # the cell is shared, not copied
    assert isinstance(made, FunctionType) and made.__name__ == "function" and made.__code__.co_filename == __file__ and TRACER in made.__code__.co_freevars


def test_a_function_is_rewritten_once_and_bound_to_many_closures() -> None:
    def make(n):
        def function():
            return n

        return function

    one, two = rewrite_function(make(1)), rewrite_function(make(2))
    assert one.code is two.code and (one.bind(Recorder())(), two.bind(Recorder())()) == (1, 2)


def test_places_are_those_of_the_file() -> None:
    def function(a):
        return a.missing

    rewritten = rewrite_function(function)
    line = function.__code__.co_firstlineno
    assert (rewritten.span.line, rewritten.span.file) == (line, __file__) and rewritten.node.name == "function"
    with pytest.raises(AttributeError) as caught:
        rewritten.bind(Recorder())(3)
    assert caught.traceback[-1].lineno + 1 == line + 1


def test_nested_functions_are_left_alone() -> None:
    def function(a):
        def inner(x):
            y = x + 1
            return y if y > 2 else 0

        return inner(a)

    result, calls = traced(function, 5)
    assert result == 6 and "ternary" not in calls


def test_what_is_found_in_the_source() -> None:
    def lazy(n):
        @T.prim_func
        def main(A: T.Tensor((4,), "float32")):
            pass

        return main

    def eager(A, B: T.int32, n: int = 3):
        A: T.Tensor((4,), "float32")
        local: int = 3
        return A

    assert has_inner_prim_func(lazy) and not has_inner_prim_func(eager)
    assert annotated_names(eager) == {"A"}
    assert {name: ast.unparse(node) for name, node in annotation_nodes(eager).items()} == {"B": "T.int32", "n": "int"}


@pytest.mark.parametrize("value", [print, 3, "text", object()])
def test_what_is_no_python_function_is_refused(value: Any) -> None:
    with refused(Kind.NOT_A_PRIM_FUNC, "is no Python function"):
        require_function(value)
