"""Names that are part of the language and not run: each is refused with what it belongs to."""

from __future__ import annotations

import pytest

import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.language.elsewhere import REASONS, Reason


@pytest.mark.parametrize("name", sorted(REASONS))
def test_each_is_refused_with_its_reason(name: str) -> None:
    with refused(Kind.THREAD_LEVEL, f"T.{name} is part of the language", REASONS[name].because, REASONS[name].help):
        getattr(T, name)


def test_none_of_them_is_run_after_all() -> None:
    assert not REASONS.keys() & set(T.__all__)
    assert set(REASONS.values()) == set(Reason)


def test_a_name_that_is_not_listed_is_unknown_and_may_be_a_slip_of_one_that_is() -> None:
    with refused(Kind.UNKNOWN_NAME, "there is no T.wgmma_gem", "did you mean T.wgmma_gemm?"):
        _ = T.wgmma_gem
