"""The short names of fp8 formats."""

from __future__ import annotations

from typing import Any

import pytest

from tests.execution import refused
from tilewright.errors import Kind
from tilewright.language.fp8 import determine_fp8_type


def test_names() -> None:
    assert determine_fp8_type() == determine_fp8_type("e4m3") == "float8_e4m3fn" and determine_fp8_type("e5m2") == "float8_e5m2"


@pytest.mark.parametrize("name", ["e3m4", "float8_e4m3fn", 8, None])
def test_other_names_are_refused(name: Any) -> None:
    with refused(Kind.DTYPE_NAME, '"e4m3"'):
        determine_fp8_type(name)
