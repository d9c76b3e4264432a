"""The list of mistakes: stable codes, one page each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tilewright
from tilewright.error_kinds import Category, Kind

PACKAGE = Path(tilewright.__file__).parent
SOURCES = "\n".join(p.read_text() for p in sorted(PACKAGE.rglob("*.py")) if p.name != "error_kinds.py")


def test_codes_are_unique_and_readable() -> None:
    codes = [kind.value for kind in Kind]
    assert len(set(codes)) == len(Kind.__members__) and all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code) for code in codes)
    assert all(isinstance(kind.category, Category) for kind in Kind)


@pytest.mark.parametrize("kind", list(Kind), ids=lambda k: k.value)
def test_every_kind_is_reported_somewhere_and_explained(kind: Kind) -> None:
    assert re.search(rf"\bKind\.{kind.name}\b", SOURCES), "nothing reports this kind"
    assert (PACKAGE / "explanations" / f"{kind.value}.md").is_file()


def test_a_code_finds_its_kind() -> None:
    assert Kind("copy-shape") is Kind.COPY_SHAPE and Kind.COPY_SHAPE.category is Category.VALUE
