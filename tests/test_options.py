"""What the environment asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tilewright.options import MEBIBYTE, Environment, environment


def test_nothing_is_asked_for() -> None:
    assert environment({}) == Environment() and environment({"TILEWRIGHT_CACHE": "  ", "HOME": "/"}) == Environment()


@pytest.mark.parametrize(
    ("name", "text", "field", "wanted"),
    [
        ("TILEWRIGHT_CACHE_DIR", "/a/b", "cache_directory", Path("/a/b")),
        ("TILEWRIGHT_CACHE", "0", "is_cache_enabled", False),
        ("TILEWRIGHT_CACHE", "OFF", "is_cache_enabled", False),
        ("TILEWRIGHT_CACHE", "yes", "is_cache_enabled", True),
        ("TILEWRIGHT_CACHE_MAX_MB", "3", "cache_max_size_bytes", 3 * MEBIBYTE),
        ("TILEWRIGHT_CHECK", "1", "is_check_enabled", True),
        ("TILEWRIGHT_CHECK", "false", "is_check_enabled", False),
        ("TILEWRIGHT_VERIFY", "1", "is_verify_enabled", True),
        ("TILEWRIGHT_THREADS", "4", "thread_count", 4),
        ("TILEWRIGHT_DUMP", "d", "dump_directory", Path("d")),
        ("TILEWRIGHT_REPORT_DIR", "r", "report_directory", Path("r")),
        ("TILEWRIGHT_TARGET", " c ", "default_target", "c"),
    ],
)
def test_each_variable(name: str, text: str, field: str, wanted: Any) -> None:
    found = environment({name: text})
    assert getattr(found, field) == wanted
    changed = [f for f in Environment.__dataclass_fields__ if getattr(found, f) != getattr(Environment(), f)]
    assert changed in ([field], [])


@pytest.mark.parametrize("name", ["TILEWRIGHT_CACHE_MAX_MB", "TILEWRIGHT_THREADS"])
@pytest.mark.parametrize("text", ["many", "-1", "2.5", ""])
def test_values_that_cannot_be_read_count_as_absent(name: str, text: str) -> None:
    assert environment({name: text}) == Environment()


def test_homes() -> None:
    assert environment({"TILEWRIGHT_DUMP": "~/x"}).dump_directory == Path("~/x").expanduser()
    assert environment({"TILEWRIGHT_DUMP": "~nobody-of-this-name/x"}).dump_directory is None


def test_the_environment_is_read_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_THREADS", "7")
    assert environment().thread_count == 7
    monkeypatch.setenv("TILEWRIGHT_THREADS", "8")
    assert environment().thread_count == 8
