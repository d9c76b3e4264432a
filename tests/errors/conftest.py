"""Wrong programs run in the folder of the programs, with no checks switched on from outside."""

from __future__ import annotations

import pytest

from tests.errors.examples import PROGRAMS


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROGRAMS)
    monkeypatch.setenv("TILEWRIGHT_CHECK", "0")
