"""Fixtures of the runtime's tests."""

from __future__ import annotations

import pytest

from tilewright.runtime import arguments, fast_path
from tilewright.runtime.stub import CtypesStub


@pytest.fixture(params=["native", "ctypes"])
def stubs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test with the stub compiled to machine code, and with its plain replacement."""
    if request.param == "ctypes":
        for module in (arguments, fast_path):
            monkeypatch.setattr(module, "make_stub", CtypesStub)
