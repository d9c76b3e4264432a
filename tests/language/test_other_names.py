"""Names of other libraries: what is written instead exists."""

from __future__ import annotations

import re

import pytest

import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.language.other_names import INSTEAD


@pytest.mark.parametrize("name", sorted(set(INSTEAD) - {"kernel"}))
def test_what_to_write_instead(name: str) -> None:
    assert name not in T.__all__
    for suggested in re.findall(r"T\.(\w+)", INSTEAD[name]):
        assert suggested in T.__all__, suggested
    with refused(Kind.UNKNOWN_NAME, f"there is no T.{name}", f"help: write {INSTEAD[name]}"):
        getattr(T, name)


def test_a_slip_is_told_from_another_word() -> None:
    with refused(Kind.UNKNOWN_NAME, "did you mean T.alloc_fragment?"):
        T.alloc_fragmnt((3,), "float32")
    with refused(Kind.UNKNOWN_NAME, "the README lists the names"):
        T.thread_blocks_of_mine()
