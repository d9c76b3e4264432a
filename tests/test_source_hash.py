"""The hash of the compiler's sources and the memo that saves computing it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tilewright import source_hash as module
from tilewright.source_hash import note_late_import, source_evidence, source_hash


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "package"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.py").write_text("a = 1\n")
    (folder / "inner" / "b.py").write_text("b = 2\n")
    (folder / "notes.md").write_text("not code")
    monkeypatch.setattr(module, "PACKAGE", folder)
    forget()
    yield folder
    forget()


def forget() -> None:
    source_hash.cache_clear()
    source_evidence.cache_clear()
    module._mixtures.clear()


def fresh(memo: Path | None = None) -> str:
    forget()
    return source_hash(memo)


def test_an_edit_after_the_import_is_told_apart(package: Path, tmp_path: Path) -> None:
    memo = tmp_path / "sources.json"
    before = fresh()
    forget()
    source_evidence()
    (package / "a.py").write_text("a = 5  # while the old code runs\n")
    mixed = source_hash(memo)
    assert mixed not in (before, fresh()) and not memo.exists()


def test_an_edit_before_a_late_import_is_told_apart(package: Path, tmp_path: Path) -> None:
    memo = tmp_path / "sources.json"
    before = fresh(memo)
    note_late_import()
    assert source_hash(memo) == before
    (package / "a.py").write_text("a = 5  # before b is imported\n")
    assert source_hash(memo) == before, "what is loaded is still the old code"
    note_late_import()
    assert source_hash(memo) not in (before, fresh())


def test_only_the_contents_of_python_files_count(package: Path) -> None:
    before = fresh()
    (package / "notes.md").write_text("other")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.py").write_text("stale")
    assert fresh() == before
    (package / "a.py").write_text("a = 3\n")
    assert fresh() != before


def test_moving_text_from_one_file_to_another_shows(package: Path) -> None:
    before = fresh()
    (package / "a.py").write_text("a = 1\nb = 2\n")
    (package / "inner" / "b.py").write_text("")
    assert fresh() != before


def test_the_memo_is_used_and_follows_the_files(package: Path, tmp_path: Path) -> None:
    memo = tmp_path / "sources.json"
    before = fresh(memo)
    kept = json.loads(memo.read_text())
    assert kept["hash"] == before
    memo.write_text(json.dumps({**kept, "hash": "f" * 64}))
    assert fresh(memo) == "f" * 64  # the evidence agrees, so the files are not read
    (package / "a.py").write_text("a = 4  # longer\n")
    assert fresh(memo) == fresh() != before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"evidence": 1}', '{"evidence": "x", "hash": 3}'])
def test_a_damaged_memo_is_done_without(package: Path, tmp_path: Path, content: str) -> None:
    memo = tmp_path / "sources.json"
    memo.write_text(content)
    assert fresh(memo) == fresh()


def test_a_memo_that_cannot_be_written_is_done_without(package: Path, tmp_path: Path) -> None:
    assert fresh(tmp_path / "missing" / "sources.json") == fresh()
