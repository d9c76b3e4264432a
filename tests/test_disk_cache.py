"""The disk cache gives back what was stored or nothing: under damage, full disks, missing directories and threads."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs
import pytest

from tilewright import disk_cache as cache_module
from tilewright.cache_entry import encode_entry
from tilewright.disk_cache import CacheWarning, DiskCache, cache_key, default_directory, open_cache

ROOT = Path(cache_module.__file__).parents[1]
KEY = cache_key({"source": "kernel"})
OTHER_KEY = cache_key({"source": "other kernel"})
SECTIONS = {"cubin": b"\x7fELF" + bytes(range(256)), "metadata": b'{"registers": 64}'}
OTHER_SECTIONS = {"cubin": b"other", "metadata": b"{}"}


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_told_reasons", {})


@pytest.fixture
def recorded() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        yield messages


def python(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    child_environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run([sys.executable, "-c", script, *arguments], env=child_environment, capture_output=True, text=True, timeout=60)


def entry_path(cache: DiskCache, key: str) -> Path:
    assert cache.directory is not None
    return cache.directory / f"{key}.tw1"


def set_last_used(path: Path, age_seconds: float) -> None:
    moment = time.time() - age_seconds
    os.utime(path, (moment, moment))


# Ordinary use


def test_load_gives_what_was_stored(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "not" / "there" / "yet")
    assert cache.load(KEY) is None
    assert cache.store(KEY, SECTIONS)
    assert cache.load(KEY) == SECTIONS
    assert cache.load(OTHER_KEY) is None
    assert DiskCache(cache.directory).load(KEY) == SECTIONS
    assert [entry.key for entry in cache.entries()] == [KEY]
    assert cache.entries()[0].size_bytes == len(encode_entry(KEY, SECTIONS)) == entry_path(cache, KEY).stat().st_size


def test_store_replaces_and_leaves_one_file(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    assert cache.store(KEY, OTHER_SECTIONS)
    assert cache.store(KEY, SECTIONS)
    assert cache.load(KEY) == SECTIONS
    assert len(os.listdir(tmp_path)) == 1


def test_a_disabled_cache_touches_nothing(tmp_path: Path, recorded: list[warnings.WarningMessage]) -> None:
    cache = DiskCache(tmp_path, enabled=False)
    assert not cache.store(KEY, SECTIONS)
    assert os.listdir(tmp_path) == []
    DiskCache(tmp_path).store(KEY, SECTIONS)
    assert cache.load(KEY) is None
    assert len(cache.entries()) == 1
    assert recorded == []


@pytest.mark.parametrize("key", ["", "abc", KEY.upper(), KEY + "\n", "../" + KEY[3:], KEY + "0"])
def test_only_keys_are_looked_up(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no cache key"):
        DiskCache(tmp_path).load(key)
    with pytest.raises(ValueError, match="no cache key"):
        DiskCache(tmp_path).store(key, SECTIONS)


def test_a_relative_directory_stays_put_when_the_process_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = DiskCache(Path("cache"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cache.store(KEY, SECTIONS)
    assert (tmp_path / "cache").is_dir()


def test_open_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TILEWRIGHT_CACHE_MAX_MB", "3")
    monkeypatch.setenv("TILEWRIGHT_CACHE", "0")
    cache = open_cache()
    assert (cache.directory, cache.is_enabled, cache.max_size_bytes) == (tmp_path, False, 3 << 20)
    monkeypatch.delenv("TILEWRIGHT_CACHE_DIR")
    assert open_cache().directory == default_directory()


# Damage


def damage(data: bytes, others: list[bytes], generator: random.Random) -> bytes:
    """A file that is not `data`: bits flipped, cut, lengthened, overwritten, or the file of another entry, whole or in part."""
    position = generator.randrange(len(data))
    other = generator.choice(others)
    match generator.randrange(8):
        case 0 | 1:
            changed = bytearray(data)
            for _ in range(generator.choice([1, 1, 2, 8])):
                changed[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
            return bytes(changed)
        case 2:
            return data[:position]
        case 3:
            return data + generator.randbytes(generator.randrange(1, 64))
        case 4:
            return data[:position] + bytes(min(len(data) - position, generator.randrange(1, 512))) + data[position + 512 :]
        case 5:
            return other
        case 6:
            return data[:position] + other[position:]
        case _:
            return data[position:] + data[:position]


def test_ten_thousand_corruptions_never_load_wrong_content(tmp_path: Path) -> None:
    generator = random.Random(20261122)
    cache = DiskCache(tmp_path, max_size_bytes=None)
    contents = {}
    for number in range(12):
        sections = {f"section{i}": generator.randbytes(generator.choice([0, 10, 300, 3000])) for i in range(generator.randrange(1, 4))}
        contents[cache_key({"number": str(number)})] = sections
    # Same sections under two keys, and two contents of one length: what a naive swap would confuse.
    contents[KEY], contents[OTHER_KEY] = {"a": b"1234"}, {"a": b"1234"}
    contents[cache_key({})] = {"a": b"4321"}
    files = {key: encode_entry(key, sections) for key, sections in contents.items()}
    keys = list(files)
    corrupted_count = 0
    while corrupted_count < 10_000:
        key = generator.choice(keys)
        wrong = damage(files[key], [files[other] for other in keys if other != key], generator)
        if wrong == files[key]:
            continue  # zeros over zeros
        path = entry_path(cache, key)
        path.write_bytes(wrong)
        assert cache.load(key) is None
        assert not path.exists()
        corrupted_count += 1
        if corrupted_count % 100 == 0:  # the same files, undamaged, do load
            path.write_bytes(files[key])
            assert cache.load(key) == contents[key]


def test_entries_that_swapped_files_are_misses(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.store(KEY, SECTIONS)
    cache.store(OTHER_KEY, OTHER_SECTIONS)
    one, other = entry_path(cache, KEY), entry_path(cache, OTHER_KEY)
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    assert [item.reason for item in cache.verify()] == ["holds the entry of another key"] * 2
    assert cache.load(KEY) is None
    assert cache.load(OTHER_KEY) is None
    assert os.listdir(tmp_path) == []


def test_verify_names_the_damaged_and_removes_them_when_asked(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.store(KEY, SECTIONS)
    cache.store(OTHER_KEY, OTHER_SECTIONS)
    assert cache.verify() == ()
    path = entry_path(cache, KEY)
    path.write_bytes(path.read_bytes()[:-1])
    for remove in (False, True):
        (found,) = cache.verify(remove=remove)
        assert (found.entry.key, found.reason) == (KEY, "the checksum does not fit the content")
    assert cache.verify() == ()
    assert [entry.key for entry in cache.entries()] == [OTHER_KEY]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_in_place_of_an_entry_neither_blocks_nor_stays(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    os.mkfifo(entry_path(cache, KEY))
    assert cache.load(KEY) is None
    assert cache.store(KEY, SECTIONS)
    assert cache.load(KEY) == SECTIONS


def test_a_folder_in_place_of_an_entry_is_a_miss(tmp_path: Path, recorded: list[warnings.WarningMessage]) -> None:
    cache = DiskCache(tmp_path)
    entry_path(cache, KEY).mkdir()
    assert cache.load(KEY) is None
    assert recorded == []
    assert not cache.store(KEY, SECTIONS)
    assert cache.entries() == ()
    assert [message.category for message in recorded] == [CacheWarning]


def test_an_enormous_file_is_not_read(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    with open(entry_path(cache, KEY), "wb") as file:
        file.write(encode_entry(KEY, SECTIONS))
        file.truncate(1 << 42)  # sparse
    assert cache.load(KEY) is None
    assert cache.entries() == ()


# Faults of the operating system


def failing(name: str, code: int, after: int = 0) -> Callable[..., object]:
    """The function `os.<name>`, raising `code` from the call with number `after` on; a write that will fail next is a short one first."""
    original = getattr(os, name)
    call_count = 0

    def replacement(*arguments: object, **options: object) -> object:
        nonlocal call_count
        call_count += 1
        if name == "close":  # as the system does: the descriptor is gone, and the data too
            original(*arguments, **options)
        if call_count > after:
            raise OSError(code, os.strerror(code))
        if name == "write":
            descriptor, data = arguments
            return original(descriptor, bytes(data)[: len(data) // 2])  # type: ignore[arg-type, call-overload]
        return original(*arguments, **options)

    return replacement


CODES = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EBUSY, errno.EIO]
STEPS = [("makedirs", 0), ("open", 0), ("write", 0), ("write", 1), ("write", 3), ("close", 0), ("replace", 0)]


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize(("name", "after"), STEPS)
def test_a_failing_store_tells_once_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[warnings.WarningMessage], name: str, after: int, code: int
) -> None:
    cache = DiskCache(tmp_path)
    assert cache.store(OTHER_KEY, OTHER_SECTIONS)
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing(name, code, after))
            is_stored = cache.store(KEY, SECTIONS)
        assert not is_stored
        assert os.listdir(tmp_path) == [f"{OTHER_KEY}.tw1"]
    assert [message.category for message in recorded] == [CacheWarning]
    assert os.strerror(code) in str(recorded[0].message)
    assert cache.load(KEY) is None
    assert cache.load(OTHER_KEY) == OTHER_SECTIONS
    assert cache.store(KEY, SECTIONS)
    assert cache.load(KEY) == SECTIONS


@pytest.mark.parametrize("name", ["open", "fstat", "read"])
def test_a_failing_load_is_a_miss_and_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[warnings.WarningMessage], name: str) -> None:
    cache = DiskCache(tmp_path)
    cache.store(KEY, SECTIONS)
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing(name, errno.EIO))
            sections = cache.load(KEY)
            damaged = cache.verify()
        assert sections is None
        assert [item.reason for item in damaged] == [f"cannot be read: {os.strerror(errno.EIO)}"]
    assert [message.category for message in recorded] == [CacheWarning]
    assert cache.load(KEY) == SECTIONS


def test_a_read_only_cache_filled_by_somebody_else_is_used_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[warnings.WarningMessage]
) -> None:
    cache = DiskCache(tmp_path)
    cache.store(KEY, SECTIONS)
    entry_path(cache, OTHER_KEY).write_bytes(b"damaged")
    with monkeypatch.context() as patch:
        for name in ("utime", "unlink", "replace", "makedirs"):
            patch.setattr(os, name, failing(name, errno.EROFS))
        assert cache.load(KEY) == SECTIONS
        assert cache.load(OTHER_KEY) is None
        assert recorded == []
        assert not cache.store(OTHER_KEY, OTHER_SECTIONS)
    assert len(recorded) == 1


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache(tmp_path)
    cache.store(KEY, SECTIONS)
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size_bytes: read(descriptor, min(7, size_bytes)))
    assert cache.load(KEY) == SECTIONS


def test_a_write_that_makes_no_progress_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[warnings.WarningMessage]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: 0)
        is_stored = DiskCache(tmp_path).store(KEY, SECTIONS)
    assert not is_stored
    assert len(recorded) == 1
    assert os.listdir(tmp_path) == []


def test_each_reason_is_told_once_for_all_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[warnings.WarningMessage]) -> None:
    for code in (errno.ENOSPC, errno.EROFS, errno.ENOSPC):
        for directory in ("one", "two"):
            with monkeypatch.context() as patch:
                patch.setattr(os, "replace", failing("replace", code))
                DiskCache(tmp_path / directory).store(KEY, SECTIONS)
    assert [os.strerror(code) in str(message.message) for code, message in zip(CODES[:3:2], recorded, strict=True)] == [True, True]


def test_a_warning_turned_into_an_error_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings(), monkeypatch.context() as patch:
        warnings.simplefilter("error")
        patch.setattr(os, "replace", failing("replace", errno.ENOSPC))
        with pytest.raises(CacheWarning):
            DiskCache(tmp_path).store(KEY, SECTIONS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_directory_that_cannot_exist(tmp_path: Path, recorded: list[warnings.WarningMessage], below: str) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    cache = DiskCache(tmp_path / "file" / below)
    for _ in range(2):
        assert cache.load(KEY) is None
        assert not cache.store(KEY, SECTIONS)
    assert (cache.entries(), cache.verify()) == ((), ())
    assert cache.collect(0).kept_count == cache.clear().removed_count == 0
    assert (tmp_path / "file").read_bytes() == b"precious"
    assert 1 <= len(recorded) <= 2  # "not a directory", and for the file itself also "file exists"
    assert len({str(message.message) for message in recorded}) == len(recorded)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_the_system_stopping_a_write_half_way(tmp_path: Path) -> None:
    script = """
import os, resource, sys, warnings
from pathlib import Path
from tilewright.disk_cache import DiskCache
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
cache = DiskCache(Path(sys.argv[1]))
with warnings.catch_warnings(record=True) as messages:
    warnings.simplefilter("always")
    assert [cache.store("a" * 64, {"cubin": bytes(50_000)}) for _ in range(3)] == [False] * 3
assert len(messages) == 1, messages
assert os.listdir(sys.argv[1]) == []
assert cache.store("b" * 64, {"cubin": bytes(500)}) and cache.load("b" * 64) == {"cubin": bytes(500)}
"""
    run = python(script, str(tmp_path))
    assert run.returncode == 0, run.stderr


def raise_runtime_error(*arguments: object, **options: object) -> Path:
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("lookup", [raise_runtime_error, lambda *arguments, **options: Path("~/.cache/tilewright")])
def test_no_home_directory_means_no_cache_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, recorded: list[warnings.WarningMessage], lookup: Callable[..., Path]
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_path", lookup)
    assert default_directory() is None
    cache = DiskCache(default_directory())
    for _ in range(2):
        assert cache.load(KEY) is None
        assert not cache.store(KEY, SECTIONS)
    assert (cache.entries(), cache.verify(), cache.clear().removed_count, cache.collect(0).kept_count) == ((), (), 0, 0)
    assert [message.category for message in recorded] == [CacheWarning]
    assert "HOME" in str(recorded[0].message)


def test_default_directory_without_home_variables() -> None:
    script = """
import os
for name in ("HOME", "XDG_CACHE_HOME", "USERPROFILE", "LOCALAPPDATA"):
    os.environ.pop(name, None)
from tilewright.disk_cache import default_directory
for home in (None, "", "relative"):
    if home is not None:
        os.environ["HOME"] = home
    directory = default_directory()
    assert directory is None or directory.is_absolute(), directory
"""
    run = python(script)
    assert run.returncode == 0, run.stderr


def test_an_entry_larger_than_the_cache_is_not_kept(tmp_path: Path, recorded: list[warnings.WarningMessage]) -> None:
    cache = DiskCache(tmp_path, max_size_bytes=len(encode_entry(KEY, SECTIONS)) - 1)
    assert not cache.store(KEY, SECTIONS)
    assert not cache.store(KEY, SECTIONS)
    assert cache.store(OTHER_KEY, OTHER_SECTIONS)
    assert [message.category for message in recorded] == [CacheWarning]
    assert DiskCache(tmp_path, max_size_bytes=len(encode_entry(KEY, SECTIONS))).store(KEY, SECTIONS)


# Collection


def test_collect_removes_the_least_recently_used(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    keys = [cache_key({"number": str(number)}) for number in range(4)]
    for age, key in enumerate(keys):
        assert cache.store(key, {"data": bytes(1000)})
        set_last_used(entry_path(cache, key), 100 - age)
    size_bytes = cache.entries()[0].size_bytes
    assert [entry.key for entry in cache.entries()] == keys
    assert cache.load(keys[0]) is not None  # the oldest is now the youngest
    report = cache.collect(2 * size_bytes)
    assert (report.removed_count, report.removed_size_bytes) == (2, 2 * size_bytes)
    assert (report.kept_count, report.kept_size_bytes, report.temporary_count) == (2, 2 * size_bytes, 0)
    assert [entry.key for entry in cache.entries()] == [keys[3], keys[0]]
    assert cache.collect(2 * size_bytes).removed_count == 0
    assert cache.collect().removed_count == 0
    assert cache.collect(0).kept_count == 0


def test_collect_removes_what_a_killed_writer_left_but_not_what_one_is_writing(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    cache.store(KEY, SECTIONS)
    ages_seconds = {"a": 7200.0, "b": -7200.0, "c": 10.0, "d": -10.0}  # negative: the clock was set back since
    for token, age_seconds in ages_seconds.items():
        path = tmp_path / f".{KEY}.{token * 16}.tw1.tmp"
        path.write_bytes(b"half")
        set_last_used(path, age_seconds)
    assert cache.collect().temporary_count == 2
    assert sorted(os.listdir(tmp_path)) == [f".{KEY}.{token * 16}.tw1.tmp" for token in "cd"] + [f"{KEY}.tw1"]
    entry_path(cache, OTHER_KEY).touch()  # empty, but of an entry's name
    report = cache.clear()
    assert (report.temporary_count, report.removed_count, report.kept_count) == (2, 2, 0)
    assert os.listdir(tmp_path) == []


def test_foreign_files_and_other_formats_are_left_alone(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    names = ["notes.txt", f"{KEY}.tw2", f"{KEY}.tw10", f"{KEY}.tw1.bak", f".{KEY}.aaaa.tw2.tmp", f"{KEY[:-1]}.tw1", f"{KEY}xtw1"]
    for name in names:
        (tmp_path / name).write_bytes(encode_entry(KEY, SECTIONS))
        set_last_used(tmp_path / name, 1e6)
    assert cache.load(KEY) is None
    cache.store(KEY, SECTIONS)
    assert [entry.key for entry in cache.entries()] == [KEY]
    cache.collect(0)
    cache.clear()
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_two_formats_share_a_directory_without_cross_talk(tmp_path: Path) -> None:
    """The next version is this one with its format number changed: both use the same key, and each sees its own content."""
    script = """
import sys
from pathlib import Path
from tilewright import cache_entry, disk_cache
disk_cache._SUFFIX, cache_entry._MAGIC = ".tw2", b"tilewright cache 2\\n"
store = disk_cache.DiskCache(Path(sys.argv[1]))
assert store.load(sys.argv[2]) is None
assert store.store(sys.argv[2], {"cubin": b"next"})
assert store.load(sys.argv[2]) == {"cubin": b"next"}
"""
    cache = DiskCache(tmp_path)
    cache.store(KEY, SECTIONS)
    run = python(script, str(tmp_path), KEY)
    assert run.returncode == 0, run.stderr
    assert cache.load(KEY) == SECTIONS
    shutil.copy(tmp_path / f"{KEY}.tw2", entry_path(cache, KEY))
    assert cache.load(KEY) is None


@pytest.mark.parametrize("size_bytes", [200, 5000, 50_000])
def test_store_keeps_the_directory_near_its_limit(tmp_path: Path, size_bytes: int) -> None:
    limit_bytes = 400_000
    cache = DiskCache(tmp_path, max_size_bytes=limit_bytes)
    for number in range(3 * limit_bytes // (size_bytes + 300)):
        assert cache.store(cache_key({"number": str(number)}), {"data": bytes(size_bytes)})
    total_bytes = sum(entry.size_bytes for entry in cache.entries())
    assert limit_bytes / 2 < total_bytes < 1.25 * limit_bytes


def test_an_entry_that_cannot_be_removed_counts_as_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[warnings.WarningMessage]) -> None:
    cache = DiskCache(tmp_path)
    cache.store(KEY, SECTIONS)
    cache.store(OTHER_KEY, OTHER_SECTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing("unlink", errno.EACCES))
        report = cache.clear()
    assert (report.removed_count, report.kept_count) == (0, 2)
    assert [message.category for message in recorded] == [CacheWarning]


# Threads


def test_threads_share_a_cache_and_its_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: list[warnings.WarningMessage]) -> None:
    cache = DiskCache(tmp_path)
    gate = threading.Barrier(8)
    wrong: list[object] = []

    def work() -> None:
        gate.wait()
        for round_number in range(30):
            key = cache_key({"round": str(round_number)})
            if not cache.store(key, {"data": key.encode()}) or cache.load(key) != {"data": key.encode()}:
                wrong.append(key)

    def fail() -> None:
        gate.wait()
        wrong.append(cache.store(KEY, SECTIONS))

    for target, expected in ((work, []), (fail, [False] * 8)):
        if target is fail:
            monkeypatch.setattr(os, "replace", failing("replace", errno.ENOSPC))
        threads = [threading.Thread(target=target) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == expected
    assert len(recorded) == 1
    assert len(os.listdir(tmp_path)) == 30
