"""Tests that need an NVIDIA GPU; they are skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilewright.runtime.cuda_driver import has_driver

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if HERE in item.path.parents]
    if not mine or has_driver():
        return
    for item in mine:
        item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
