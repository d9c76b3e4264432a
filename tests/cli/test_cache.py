"""`tilewright cache`: what each command prints, removes and returns."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from tilewright.cli import cache as cli_module
from tilewright.cli.cache import SizeType, cache, format_age, format_size, print_table
from tilewright.disk_cache import DiskCache, cache_key

KEYS = [cache_key({"number": str(number)}) for number in range(3)]


@pytest.fixture
def disk_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskCache:
    """Three entries of about 2 KiB, used 3 hours, 2 hours and 1 hour ago, in the directory that the commands open."""
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    for name in ("TILEWRIGHT_CACHE", "TILEWRIGHT_CACHE_MAX_MB"):
        monkeypatch.delenv(name, raising=False)
    disk_cache = DiskCache(tmp_path)
    for number, key in enumerate(KEYS):
        assert disk_cache.store(key, {"cubin": bytes(2048)})
        moment = time.time() - (3 - number) * 3600 - 5
        os.utime(tmp_path / f"{key}.tw1", (moment, moment))
    return disk_cache


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(cache, arguments, input=answer)


def damage(disk_cache: DiskCache, key: str) -> None:
    assert disk_cache.directory is not None
    (disk_cache.directory / f"{key}.tw1").write_bytes(b"damaged")


def test_ls_lists_the_most_recently_used_first_in_plain_columns(disk_cache: DiskCache) -> None:
    result = run("ls")
    assert result.exit_code == 0
    header, *rows, total = result.output.splitlines()
    assert header.split() == ["key", "size", "last", "used"]
    assert [row.split()[0] for row in rows] == KEYS[::-1]
    assert [row.split(maxsplit=3)[3] for row in rows] == ["1 h ago", "2 h ago", "3 h ago"]
    assert total.startswith("3 entries, 6.") and total.endswith(f"KiB in {disk_cache.directory}")
    assert result.output.isascii()


def test_ls_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "none"))
    result = run("ls")
    assert (result.exit_code, result.output) == (0, f"0 entries, 0 B in {tmp_path / 'none'}\n")
    assert not (tmp_path / "none").exists()


def test_ls_says_when_the_cache_is_switched_off(disk_cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", "0")
    assert run("ls").output.endswith("(switched off)\n")


@pytest.mark.parametrize(
    ("max_size", "kept"), [("0", []), ("2K", []), ("2300", KEYS[2:]), ("4.6 KiB", KEYS[1:]), ("1g", KEYS)], ids=lambda value: str(value)[:8]
)
def test_gc_keeps_the_most_recently_used(disk_cache: DiskCache, max_size: str, kept: list[str]) -> None:
    result = run("gc", "--max-size", max_size)
    assert result.exit_code == 0
    assert [entry.key for entry in disk_cache.entries()] == kept
    removed = 3 - len(kept)
    assert result.output.startswith(f"removed {removed} {'entry' if removed == 1 else 'entries'} (")


def test_gc_without_a_size_uses_the_limit_of_the_environment(disk_cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "removed 0 entries (0 B); kept 3 entries (6." in run("gc").output
    monkeypatch.setenv("TILEWRIGHT_CACHE_MAX_MB", "0")
    assert run("gc").output.endswith("kept 0 entries (0 B)\n")


def test_gc_counts_unfinished_files(disk_cache: DiskCache) -> None:
    assert disk_cache.directory is not None
    path = disk_cache.directory / f".{KEYS[0]}.0123456789abcdef.tw1.tmp"
    path.write_bytes(b"half")
    os.utime(path, (0, 0))
    assert "and 1 unfinished file;" in run("gc").output
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "many", "-1", "5X", "1e9", "K"])
def test_gc_refuses_what_is_no_size(disk_cache: DiskCache, text: str) -> None:
    result = run("gc", "--max-size", text)
    assert result.exit_code == 2
    assert "is not a size" in result.output
    assert len(disk_cache.entries()) == 3


def test_verify_of_intact_entries(disk_cache: DiskCache) -> None:
    result = run("verify")
    assert (result.exit_code, result.output) == (0, "3 entries, none damaged\n")


def test_verify_names_damaged_entries_and_removes_them_only_when_asked(disk_cache: DiskCache) -> None:
    damage(disk_cache, KEYS[1])
    result = run("verify")
    assert result.exit_code == 1
    header, row, total = result.output.splitlines()
    assert header.split() == ["key", "size", "damage"]
    assert row.split(maxsplit=3) == [KEYS[1], "7", "B", "does not start with the mark of format version 1"]
    assert total == "3 entries, 1 damaged (a damaged entry is never loaded; --remove removes it)"
    assert len(disk_cache.entries()) == 3
    result = run("verify", "--remove")
    assert (result.exit_code, result.output.splitlines()[-1]) == (1, "3 entries, 1 damaged (removed)")
    assert [entry.key for entry in disk_cache.entries()] == [KEYS[0], KEYS[2]]
    assert run("verify").exit_code == 0


def test_clear_asks_first(disk_cache: DiskCache) -> None:
    result = run("clear", answer="n\n")
    assert result.exit_code == 1
    assert f"Remove 3 entries from {disk_cache.directory}?" in result.output
    assert len(disk_cache.entries()) == 3
    assert run("clear", answer="y\n").exit_code == 0
    assert disk_cache.entries() == ()


def test_clear_yes_does_not_ask_and_leaves_other_files(disk_cache: DiskCache) -> None:
    assert disk_cache.directory is not None
    (disk_cache.directory / "notes.txt").write_text("mine")
    result = run("clear", "--yes")
    assert result.exit_code == 0
    assert result.output.startswith("removed 3 entries (6.") and result.output.endswith("; kept 0 entries (0 B)\n")
    assert os.listdir(disk_cache.directory) == ["notes.txt"]


@pytest.mark.parametrize("command", [["ls"], ["gc"], ["verify"], ["clear", "--yes"]])
def test_without_a_directory_every_command_says_what_to_set(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setattr(cli_module, "open_cache", lambda: DiskCache(None))
    result = run(*command)
    assert result.exit_code == 1
    assert "set TILEWRIGHT_CACHE_DIR, or HOME" in result.output


def test_a_table_is_ruled_on_a_terminal_only() -> None:
    texts = {}
    for is_terminal in (False, True):
        console = Console(file=io.StringIO(), force_terminal=is_terminal, width=40, color_system=None)
        print_table(console, ("key", "size"), [("a" * 60, "1 B"), ("b", "20 B")])
        assert isinstance(console.file, io.StringIO)
        texts[is_terminal] = console.file.getvalue()
    assert texts[False] == f"key{' ' * 57}  size\n{'a' * 60}  1 B\nb{' ' * 59}  20 B\n"
    assert "│" in texts[True] and max(map(len, texts[True].splitlines())) <= 40


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (1 << 20, "1.0 MiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 52, "4096.0 TiB"),
    ],
)
def test_sizes_for_people(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(("text", "size_bytes"), [("0", 0), ("17", 17), ("17B", 17), ("1k", 1024), ("1.5M", 3 << 19), (" 2 GiB ", 2 << 30), ("1TB", 1 << 40)])
def test_sizes_from_people(text: str, size_bytes: int) -> None:
    assert SizeType().convert(text, None, None) == size_bytes
    assert SizeType()(size_bytes) == size_bytes
    with pytest.raises(click.BadParameter):
        SizeType().convert(text + "?", None, None)


@pytest.mark.parametrize(
    ("age_seconds", "text"),
    [(-5.0, "0 s ago"), (0.5, "0 s ago"), (59.9, "59 s ago"), (60, "1 min ago"), (3600, "1 h ago"), (86399, "23 h ago"), (2e6, "23 d ago")],
)
def test_ages_for_people(age_seconds: float, text: str) -> None:
    assert format_age(age_seconds) == text
