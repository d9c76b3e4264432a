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

    Files that were edited after the import do not run: then the hash is one that no unedited sources have.
    """
    evidence = source_evidence()
    if evidence in _mixtures:
        return _hash_of_mixture(evidence)
    if memo_file is not None:
        try:
            memo = json.loads(memo_file.read_text())
            if memo["evidence"] == evidence and len(memo["hash"]) == 64:
                return str(memo["hash"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
    digest = hashlib.sha256()
    for name, _, _ in sorted(_python_files(str(PACKAGE), "")):
        content = (PACKAGE / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    made = digest.hexdigest()
    if _evidence_now() != evidence:
        return _hash_of_mixture(evidence)
    if memo_file is not None:
        try:
            temporary = memo_file.with_name(f".{memo_file.name}.{os.getpid()}")
            temporary.write_text(json.dumps({"evidence": evidence, "hash": made}))
            os.replace(temporary, memo_file)
        except OSError:
            pass
    return made


def _hash_of_mixture(evidence: str) -> str:
    return hashlib.sha256(f"edited after {evidence}".encode()).hexdigest()


def note_late_import() -> None:
    """To be called after modules were imported that the package's own import leaves out: where files were edited in between, old and new code run
    together, and `source_hash` becomes one that no unedited sources have.
    """
    if _evidence_now() != source_evidence():
        source_hash.cache_clear()
        _mixtures.add(source_evidence())


_mixtures: set[str] = set()  # evidence of imports after which other sources were imported too


@lru_cache(maxsize=1)
def source_evidence() -> str:
    """A hash of the names, sizes and modification times of the files when it was first asked for: by the import of the package."""
    return _evidence_now()


def _evidence_now() -> str:
    return hashlib.sha256(repr(sorted(_python_files(str(PACKAGE), ""))).encode()).hexdigest()


def _python_files(folder: str, prefix: str) -> list[tuple[str, int, int]]:
    """Names below the package with slashes, sizes in bytes, modification times in nanoseconds."""
    found: list[tuple[str, int, int]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.endswith(".py"):
                status = entry.stat()
                found.append((prefix + name, status.st_size, status.st_mtime_ns))
            elif name != "__pycache__" and entry.is_dir(follow_symlinks=False):
                found += _python_files(entry.path, f"{prefix}{name}/")
    return found
