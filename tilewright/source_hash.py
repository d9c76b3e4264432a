"""The compiler's own sources as a part of cache keys (floor 0): an edit to any pass makes new keys, the same sources anywhere make the same ones."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


@lru_cache(maxsize=4)
def source_hash(memo_file: Path | None = None) -> str:
    """A hash of the contents of every Python file of the package.

    memo_file   where the result may be kept between processes, under the names, sizes and modification times of the files: the same evidence by which
                Python trusts its own bytecode. A memo that cannot be read or written is done without.
    """
    files = sorted(_python_files(str(PACKAGE)))
    evidence = hashlib.sha256(json.dumps([(os.path.relpath(path, PACKAGE), size, time) for path, size, time in files]).encode()).hexdigest()
    if memo_file is not None:
        try:
            memo = json.loads(memo_file.read_text())
            if memo["evidence"] == evidence and len(memo["hash"]) == 64:
                return str(memo["hash"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
    digest = hashlib.sha256()
    for path, _, _ in files:
        content = Path(path).read_bytes()
        digest.update(f"{os.path.relpath(path, PACKAGE)} {len(content)}\n".encode())
        digest.update(content)
    made = digest.hexdigest()
    if memo_file is not None:
        try:
            temporary = memo_file.with_name(f".{memo_file.name}.{os.getpid()}")
            temporary.write_text(json.dumps({"evidence": evidence, "hash": made}))
            os.replace(temporary, memo_file)
        except OSError:
            pass
    return made


def _python_files(folder: str) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    found += _python_files(entry.path)
            elif entry.name.endswith(".py"):
                status = entry.stat()
                found.append((entry.path, status.st_size, status.st_mtime_ns))
    return found
