"""What the environment asks for, read in one place (floor 0). `tilewright doctor` prints every value and where it came from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Environment:
    """The TILEWRIGHT_* variables, typed.

    cache_directory       TILEWRIGHT_CACHE_DIR: where compiled kernels are kept; None means the platform's cache folder.
    is_cache_enabled      TILEWRIGHT_CACHE=0 switches the disk cache off.
    cache_max_size_bytes  TILEWRIGHT_CACHE_MAX_MB: `cache gc` collects down to this size.
    is_check_enabled      TILEWRIGHT_CHECK=1 runs the reference beside every kernel call and compares.
    is_verify_enabled     TILEWRIGHT_VERIFY=1 verifies the program after each pass.
    thread_count          TILEWRIGHT_THREADS: CPU threads of the worker pool; 0 means all that this process may use.
    dump_directory        TILEWRIGHT_DUMP: every pass writes its program there.
    report_directory      TILEWRIGHT_REPORT_DIR: where bundles for bug reports go; None means the temporary folder.
    default_target        TILEWRIGHT_TARGET: what `target="auto"` means.
    """

    cache_directory: Path | None = None
    is_cache_enabled: bool = True
    cache_max_size_bytes: int = 1024 * MEBIBYTE
    is_check_enabled: bool = False
    is_verify_enabled: bool = False
    thread_count: int = 0
    dump_directory: Path | None = None
    report_directory: Path | None = None
    default_target: str = "cpu"


def environment(variables: Mapping[str, str] | None = None) -> Environment:
    """The settings in force now; a value that cannot be read counts as absent."""
    source = os.environ if variables is None else variables
    default = Environment()

    def flag(name: str, fallback: bool) -> bool:
        text = source.get(name, "").strip().lower()
        return fallback if not text else text not in ("0", "false", "off", "no")

    def number(name: str, fallback: int) -> int:
        text = source.get(name, "").strip()
        return int(text) if text.isdecimal() else fallback

    def path(name: str) -> Path | None:
        text = source.get(name, "").strip()
        try:
            return Path(text).expanduser() if text else None
        except RuntimeError:  # a ~name whose home is unknown
            return None

    return Environment(
        cache_directory=path("TILEWRIGHT_CACHE_DIR"),
        is_cache_enabled=flag("TILEWRIGHT_CACHE", default.is_cache_enabled),
        cache_max_size_bytes=number("TILEWRIGHT_CACHE_MAX_MB", default.cache_max_size_bytes // MEBIBYTE) * MEBIBYTE,
        is_check_enabled=flag("TILEWRIGHT_CHECK", default.is_check_enabled),
        is_verify_enabled=flag("TILEWRIGHT_VERIFY", default.is_verify_enabled),
        thread_count=number("TILEWRIGHT_THREADS", default.thread_count),
        dump_directory=path("TILEWRIGHT_DUMP"),
        report_directory=path("TILEWRIGHT_REPORT_DIR"),
        default_target=source.get("TILEWRIGHT_TARGET", "").strip() or default.default_target,
    )
