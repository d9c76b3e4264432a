"""Results of a search on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.execution import refused
from tilewright.errors import Kind
from tilewright.tune.result import AutotuneResult, Trial

RESULT = AutotuneResult(1.5, {"block": 4}, "kernel", 3.0, (Trial({"block": 4}, 1.5), Trial({"block": 0}, None, "a tile of 0")))


def test_all_but_the_kernel_is_kept(tmp_path: Path) -> None:
    RESULT.save_to_disk(tmp_path / "result.json")
    found = AutotuneResult.load_from_disk(tmp_path / "result.json")
    assert (found.latency, found.config, found.kernel, found.ref_latency, found.trials) == (1.5, {"block": 4}, None, 3.0, RESULT.trials)
    assert AutotuneResult.load_from_disk(tmp_path / "result.json", compile=lambda block: block * 2).kernel == 8


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "another"}', '{"format": "tilewright tuning result 1"}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with refused(Kind.OPTION_VALUE, "x.json holds no tuning result"):
        AutotuneResult.load_from_disk(tmp_path / "x.json")


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j])
def test_values_that_json_does_not_know_are_refused(tmp_path: Path, value: Any) -> None:
    with refused(Kind.OPTION_VALUE, "cannot be written"):
        AutotuneResult(1.0, {"x": value}).save_to_disk(tmp_path / "x.json")
