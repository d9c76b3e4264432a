"""Programs of the tests of the language run as GPU code too, in the simulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.execution import SIMULATES


@pytest.fixture(autouse=True)
def _simulated_too() -> Iterator[None]:
    token = SIMULATES.set(True)
    yield
    SIMULATES.reset(token)
