"""Traced programs on disk (floor 5): a function whose origin was met before needs no trace."""

from __future__ import annotations

from tilewright.disk_cache import open_cache
from tilewright.intrin.ieee import IEEE
from tilewright.intrin.math import FAST, MATH
from tilewright.ir.lanes import EXTRACT_LANE, PACK_LANES
from tilewright.ir.program import Program
from tilewright.ir.program_bytes import UnstorableProgramError, program_from_bytes, program_to_bytes
from tilewright.language.dependencies import Origin

_INTRINSICS = {**MATH, **IEEE, **{i.name: i for i in (PACK_LANES, EXTRACT_LANE, *FAST.values())}}


def load_program(origin: Origin) -> tuple[Program, str] | None:
    """The program and its fingerprint, as `keep_program` was given them; None where none are kept."""
    found = open_cache().load(origin.key)
    if found is None or found.keys() != {"program", "fingerprint"}:
        return None
    try:
        return program_from_bytes(found["program"], origin.files, _INTRINSICS), found["fingerprint"].decode()
    except UnstorableProgramError:
        return None


def keep_program(origin: Origin, program: Program, fingerprint: str) -> None:
    """Keeps a program that was compiled: what the trace or the compiler found wrong is found again in every process."""
    try:
        data = program_to_bytes(program, origin.files, _INTRINSICS)
    except UnstorableProgramError:
        return
    open_cache().store(origin.key, {"program": data, "fingerprint": fingerprint.encode()})
