"""Machine code through the disk cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tilewright.runtime import object_cache
from tilewright.runtime.object_cache import cached_object, load_cached, object_key
from tilewright.target.cpu import AVX2, host_target

ANSWER = "define i32 @answer() {\n  ret i32 42\n}\n"


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TILEWRIGHT_CACHE", "1")
    return tmp_path


def test_an_object_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, is_from_disk = cached_object(ANSWER, host_target())
    assert not is_from_disk
    monkeypatch.setattr(object_cache, "compile_object", lambda *_: pytest.fail("compiled again"))
    assert cached_object(ANSWER, host_target()) == (made, True)
    assert load_cached(object_key(ANSWER, host_target())) == made


def test_source_and_target_decide_the_key() -> None:
    keys = {object_key(ANSWER, AVX2), object_key(ANSWER.replace("42", "43"), AVX2), object_key(ANSWER, replace(AVX2, llvm_features="+avx2"))}
    assert len(keys) == 3
    assert object_key(ANSWER, replace(AVX2, name="another name")) in keys


def test_a_key_that_nothing_has_is_a_miss() -> None:
    assert load_cached(object_key("; nothing", host_target())) is None


def test_without_a_cache_everything_still_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", "0")
    assert cached_object(ANSWER, host_target())[1] is False
    assert cached_object(ANSWER, host_target())[1] is False
