"""Messages name any object in a few words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.runtime.recorded_kernels import FILE, pointer, program, refused, scalar, tensor, two_vectors, zeros
from tilewright import dtypes
from tilewright.errors import Span
from tilewright.ir.expr import var
from tilewright.runtime.argument_text import declared_type, describe, joined, label, plural, tuple_text, with_article


class Thing:
    def describe(self) -> str:
        raise RuntimeError


DESCRIPTIONS: list[tuple[Any, str]] = [
    (None, "None"),
    (3, "3"),
    (2.5, "2.5"),
    (True, "True"),
    ("text", "'text'"),
    ("x" * 50, "a Python str"),
    (10**5000, "a Python int"),
    ([1], "a list"),
    (object(), "an object"),
    (np.zeros((2, 3)), "a numpy array of 2 dimensions (2, 3)"),
    (np.float32(1.5), "float32 1.5"),
    (Thing(), f"a {__name__}.Thing"),
]


@pytest.mark.parametrize(("value", "text"), DESCRIPTIONS, ids=[text for _, text in DESCRIPTIONS])
def test_descriptions(value: Any, text: str) -> None:
    assert describe(value) == text


def test_small_words() -> None:
    assert (plural(1, "byte"), plural(2, "byte")) == ("1 byte", "2 bytes")
    assert [joined(["X"]), joined(["X", "Y"]), joined(["X", "Y", "Z"])] == ["X", "X and Y", "X, Y and Z"]
    assert (tuple_text((4,)), tuple_text((4, 5)), tuple_text(())) == ("(4,)", "(4, 5)", "()")
    assert (with_article("int32"), with_article("uint8"), with_article("float32")) == ("an int32", "a uint8", "a float32")


def test_declarations() -> None:
    n, s = var("n"), var("s")
    assert declared_type(tensor("A", (n, 4), dtypes.int8, strides=(s, 1))) == "int8[n, 4] with strides (s, 1)"
    assert declared_type(scalar(var("a", dtypes.float64))) == "float64"
    assert declared_type(pointer("p")) == "T.ptr"
    parameter = program(scalar(n)).parameters[0]
    assert (label(parameter).text, label(parameter).span) == ("n: int32", Span(FILE, 2, 4, 2, 12))


def test_one_declaration_is_shown_once() -> None:
    assert str(refused(two_vectors(), zeros(4), zeros(5))).count("-->") == 2
