"""Keeps compiled kernels on disk between processes, and never hands out a wrong one (floor 0).

One entry is one file, named by its key; `cache_entry` says what its bytes are. The key is a hash of what the artifact was made from, so
an entry is never out of date. A writer fills a file with a unique temporary name and publishes it with one `os.replace`; a reader checks
every byte and takes anything doubtful for a miss. Correctness therefore needs no lock, no `fsync` and no trust in the file system: a
torn, stale or damaged file costs one compilation.

The format version stands in the magic and in the file name. Versions of tilewright with different formats can share a directory: each
reads, counts and removes only its own files. The footer finds damage, not forgery: whoever can write to the directory can run code
in the processes that read it, so the default directory is the user's own and no world-writable folder is ever fallen back to.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import platformdirs

from tilewright.cache_entry import FORMAT_VERSION, DamagedEntryError, cache_key, decode_entry, encode_entry
from tilewright.options import environment
from tilewright.source_hash import source_hash

__all__ = [
    "CacheEntry",
    "CacheFault",
    "CacheWarning",
    "CollectReport",
    "DamagedEntry",
    "DiskCache",
    "cache_key",
    "compiler_hash",
    "default_directory",
    "open_cache",
]

DEFAULT_MAX_SIZE_BYTES = 1 << 30
# A damaged directory may hold a sparse file of any size; nothing above this is read into memory, or stored.
MAX_ENTRY_SIZE_BYTES = 1 << 30
# A store takes milliseconds. A temporary file this old has lost its writer (or the clock was set; then a live writer loses one store).
STALE_TEMPORARY_AGE_SECONDS = 3600.0

_SUFFIX = f".tw{FORMAT_VERSION}"
_KEY = re.compile(r"[0-9a-f]{64}")
_ENTRY_FILE = re.compile(rf"[0-9a-f]{{64}}{re.escape(_SUFFIX)}")
_TEMPORARY_FILE = re.compile(rf"\.[0-9a-f]{{64}}\.[0-9a-f]+{re.escape(_SUFFIX)}\.tmp")
# Windows translates line ends without O_BINARY; without O_NONBLOCK opening a named pipe waits for its writer.
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class CacheWarning(UserWarning):
    """The disk cache cannot be used. Kernels are still compiled and run; each reason is told once per process."""


class CacheFault(Enum):
    """Reasons for a `CacheWarning` that are not an `errno` of the operating system."""

    NO_DIRECTORY = "no folder for caches is known; set TILEWRIGHT_CACHE_DIR, or HOME"
    ENTRY_TOO_LARGE = "a compiled kernel is larger than the whole cache may be; raise TILEWRIGHT_CACHE_MAX_MB"


# Process-wide on purpose: the promise is one warning per process and reason, however many caches there are.
_told_reasons: dict[CacheFault | int | None, object] = {}


def _tell_once(fault: CacheFault | OSError) -> None:
    mark = object()
    # setdefault is atomic also without a GIL, so of two threads only one is first.
    if _told_reasons.setdefault(fault.errno if isinstance(fault, OSError) else fault, mark) is not mark:
        return
    reason = f"{fault}; TILEWRIGHT_CACHE_DIR names another folder" if isinstance(fault, OSError) else fault.value
    message = f"kernels run, but are not kept on disk: {reason} (TILEWRIGHT_CACHE=0 does without the disk, and without this warning)"
    warnings.warn(message, CacheWarning, stacklevel=3)


def default_directory() -> Path | None:
    """The platform's folder for caches of this user; None where no home directory is known."""
    try:
        directory = platformdirs.user_cache_path("tilewright", appauthor=False)
    except (OSError, RuntimeError):
        return None
    # Older platformdirs leave "~" standing when there is no home; a folder named "~" in the working directory helps nobody.
    return directory if directory.is_absolute() else None


def open_cache() -> DiskCache:
    """The cache that the environment asks for; the compiler and the command line open the same one."""
    settings = environment()
    return DiskCache(
        settings.cache_directory or default_directory(),
        enabled=settings.is_cache_enabled,
        max_size_bytes=settings.cache_max_size_bytes,
    )


def compiler_hash() -> str:
    """A hash of the compiler's sources, remembered beside the entries."""
    directory = environment().cache_directory or default_directory()
    return source_hash(directory / "sources.json" if directory is not None and directory.is_dir() else None)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One file of the cache, as the directory lists it; its content is not checked."""

    key: str
    path: str
    size_bytes: int
    last_used_ns: int


@dataclass(frozen=True, slots=True)
class DamagedEntry:
    """An entry that would not be loaded, and why."""

    entry: CacheEntry
    reason: str


@dataclass(frozen=True, slots=True)
class CollectReport:
    """What a collection removed and what it left."""

    removed_count: int
    removed_size_bytes: int
    kept_count: int
    kept_size_bytes: int
    temporary_count: int


class DiskCache:
    """The artifacts in one directory, addressed by `cache_key`.

    directory       made by the first `store`; None means that there is nowhere to keep anything, which is told once.
    enabled         False makes `load` and `store` do nothing; the other methods still look after the directory.
    max_size_bytes  `store` collects now and then, so that the directory stays near this size; None means without limit.

    Safe to use from several threads and processes at once. No method raises `OSError`: whatever the file system does, the caller sees
    a miss, and the first time in this process one `CacheWarning` for each reason.
    """

    def __init__(self, directory: Path | None, enabled: bool = True, max_size_bytes: int | None = DEFAULT_MAX_SIZE_BYTES) -> None:
        if directory is not None:
            with suppress(OSError):  # the working directory may be gone
                directory = directory.absolute()
        self.directory = directory
        self.is_enabled = enabled
        self.max_size_bytes = max_size_bytes

    def load(self, key: str) -> Mapping[str, bytes] | None:
        """The sections stored under `key`, ordered by name; None if there are none, or none that are intact. A damaged file is removed."""
        path = self._entry_path(key)
        if path is None:
            return None
        try:
            data = _read_file(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            _tell_once(error)
            return None
        try:
            sections = decode_entry(key, data)
        except DamagedEntryError:
            _remove_file(path)
            return None
        # The time of last use is kept as the modification time: mounts without access times keep it, and backups don't disturb it.
        with suppress(OSError):  # a read-only directory filled by somebody else is a fine cache
            os.utime(path)
        return sections

    def store(self, key: str, sections: Mapping[str, bytes]) -> bool:
        """Publishes `sections` under `key`, replacing what was there; False if they could not be kept.

        Raises `ValueError` for a section name outside [A-Za-z0-9_.-].
        """
        data = encode_entry(key, sections)
        path = self._entry_path(key)
        if path is None:
            return False
        if len(data) > MAX_ENTRY_SIZE_BYTES or (self.max_size_bytes is not None and len(data) > self.max_size_bytes):
            _tell_once(CacheFault.ENTRY_TOO_LARGE)
            return False
        directory = os.path.dirname(path)
        temporary_path = os.path.join(directory, f".{key}.{secrets.token_hex(8)}{_SUFFIX}.tmp")
        is_published = False
        try:
            os.makedirs(directory, exist_ok=True)
            _write_file(temporary_path, data)
            os.replace(temporary_path, path)
            is_published = True
        except OSError as error:
            _tell_once(error)
        finally:
            if not is_published:
                _remove_file(temporary_path)
        if is_published and self._is_collection_due(key, len(data)):
            self.collect()
        return is_published

    def entries(self) -> tuple[CacheEntry, ...]:
        """What is in the directory, least recently used first."""
        return self._scan()[0]

    def verify(self, *, remove: bool = False) -> tuple[DamagedEntry, ...]:
        """The entries that `load` would refuse, ordered by key; with `remove` their files are removed."""
        damaged = []
        for entry in sorted(self.entries(), key=lambda entry: entry.key):
            try:
                decode_entry(entry.key, _read_file(entry.path))
            except FileNotFoundError:
                continue  # another process removed it just now
            except OSError as error:
                damaged.append(DamagedEntry(entry, f"cannot be read: {error.strerror}"))
            except DamagedEntryError as error:
                damaged.append(DamagedEntry(entry, str(error)))
                if remove:
                    _remove_file(entry.path)
        return tuple(damaged)

    def collect(self, max_size_bytes: int | None = None) -> CollectReport:
        """Removes the least recently used entries until the rest has at most `max_size_bytes` (default: the cache's own limit).

        Temporary files that a killed writer left behind go too. An entry that cannot be removed counts as kept.
        """
        limit_bytes = self.max_size_bytes if max_size_bytes is None else max_size_bytes
        entries, temporaries = self._scan()
        temporary_count = sum(self._remove(path) for path, age_seconds in temporaries if age_seconds >= STALE_TEMPORARY_AGE_SECONDS)
        kept_count, kept_size_bytes = len(entries), sum(entry.size_bytes for entry in entries)
        removed_size_bytes = 0
        for entry in entries:
            if limit_bytes is None or kept_size_bytes <= limit_bytes:
                break
            if self._remove(entry.path):
                kept_count -= 1
                kept_size_bytes -= entry.size_bytes
                removed_size_bytes += entry.size_bytes
        return CollectReport(len(entries) - kept_count, removed_size_bytes, kept_count, kept_size_bytes, temporary_count)

    def clear(self) -> CollectReport:
        """Removes every entry and every temporary file of this format; files of other names stay."""
        temporary_count = sum(self._remove(path) for path, _ in self._scan()[1])
        return replace(self.collect(max_size_bytes=-1), temporary_count=temporary_count)  # below zero, so that empty files go too

    def _entry_path(self, key: str) -> str | None:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no cache key: 64 hex digits are expected")
        if not self.is_enabled:
            return None
        if self.directory is None:
            _tell_once(CacheFault.NO_DIRECTORY)
            return None
        return f"{self.directory}{os.sep}{key}{_SUFFIX}"

    def _scan(self) -> tuple[tuple[CacheEntry, ...], list[tuple[str, float]]]:
        """The entries, least recently used first, and the paths of the temporary files with their ages in seconds."""
        entries: list[CacheEntry] = []
        temporaries: list[tuple[str, float]] = []
        now_seconds = time.time()
        try:
            for item in os.scandir(self.directory) if self.directory is not None else ():
                is_entry = _ENTRY_FILE.fullmatch(item.name) is not None
                if not is_entry and not _TEMPORARY_FILE.fullmatch(item.name):
                    continue
                try:
                    status = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # another process removed it just now
                if not stat.S_ISREG(status.st_mode):
                    continue
                if is_entry:
                    entries.append(CacheEntry(item.name.removesuffix(_SUFFIX), item.path, status.st_size, status.st_mtime_ns))
                else:
                    # An age below zero comes from a clock that was set back; far below zero is as stale as far above.
                    temporaries.append((item.path, abs(now_seconds - status.st_mtime)))
        except FileNotFoundError:
            pass  # nothing was stored yet
        except OSError as error:
            _tell_once(error)
        entries.sort(key=lambda entry: (entry.last_used_ns, entry.key))
        return tuple(entries), temporaries

    def _remove(self, path: str) -> bool:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass  # another process was faster
        except OSError as error:
            _tell_once(error)
            return False
        return True

    def _is_collection_due(self, key: str, size_bytes: int) -> bool:
        """Whether the store of this entry pays for a collection: about one in 64 does, and the more the larger the entry is.

        Listing a large directory takes longer than compiling a kernel, so not every store can. Keys are evenly spread, so they serve as
        lottery tickets: no state to share between threads and processes, and no chance. An entry of a sixteenth of the limit always pays.
        """
        if self.max_size_bytes is None:
            return False
        return int(key[:8], 16) / (1 << 32) < max(1 / 64, 16 * size_bytes / self.max_size_bytes)


def _read_file(path: str) -> bytes:
    """The bytes of a regular file of at most MAX_ENTRY_SIZE_BYTES; of anything else, none. Raises `OSError`."""
    descriptor = os.open(path, _READ_FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_ENTRY_SIZE_BYTES:
            return b""
        data = os.read(descriptor, status.st_size)
        while len(data) < status.st_size and (more := os.read(descriptor, status.st_size - len(data))):
            data += more
        return data
    finally:
        os.close(descriptor)


def _write_file(path: str, data: bytes) -> None:
    """Makes a new file of `data`, readable by whom the umask lets. Raises `OSError`, and then may leave a part of the file."""
    descriptor = os.open(path, _WRITE_FLAGS, 0o666)
    try:
        remaining = memoryview(data)
        while remaining:
            count_bytes = os.write(descriptor, remaining)
            if count_bytes == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            remaining = remaining[count_bytes:]
    finally:
        os.close(descriptor)


def _remove_file(path: str) -> None:
    """Best effort."""
    with suppress(OSError):
        os.unlink(path)
