"""The simulated GPU as a target."""

from __future__ import annotations

from tilewright.target.nvidia import SM_80
from tilewright.target.simulated import SimulatedTarget


def test_it_is_named_after_its_architecture() -> None:
    assert SimulatedTarget(SM_80).name == "simulate sm_80" and SimulatedTarget(SM_80) == SimulatedTarget(SM_80)
