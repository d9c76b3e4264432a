"""What the simulator finds wrong, as diagnostics; each mistake once, with how often it happened (floor 7)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from tilewright.errors import CompilerBug, Diagnostic, Kind, Label, TileError, error_of


class FindingKind(Enum):
    """Kinds of findings; the value is the code."""

    RACE = "data-race"
    ASYNC_HAZARD = "async-copy-hazard"
    BARRIER = "divergent-barrier"
    UNINITIALISED = "uninitialised-read"
    OUT_OF_BOUNDS = "index-range"
    MISALIGNED = "misaligned-access"
    INACTIVE_LANES = "inactive-lanes"
    ASSERTION = "device-assert"
    ENDLESS_LOOP = "endless-loop"


# What a user's program can cause; everything else is the compiler's fault.
_KINDS = {
    FindingKind.RACE: Kind.DATA_RACE,
    FindingKind.BARRIER: Kind.DIVERGENT_BARRIER,
    FindingKind.UNINITIALISED: Kind.UNINITIALISED_READ,
    FindingKind.OUT_OF_BOUNDS: Kind.INDEX_RANGE,
    FindingKind.ASSERTION: Kind.DEVICE_ASSERT,
    FindingKind.ENDLESS_LOOP: Kind.DEVICE_ASSERT,
}


@dataclass
class Finding:
    """kind, diagnostic    the first occurrence.
    count                  how many statement executions showed it.
    """

    kind: FindingKind
    diagnostic: Diagnostic
    count: int = 1

    def as_error(self) -> TileError | CompilerBug:
        """The exception for it; a CompilerBug where a user's program cannot cause it."""
        d = self.diagnostic
        kind = _KINDS.get(self.kind)
        if kind is None:
            return CompilerBug(f"the simulator finds: {d.render()}")
        return error_of(kind, d.message, d.labels, because=d.because, help=d.help)

    def render(self) -> str:
        more = f"\n  note: it happened {self.count} times" if self.count > 1 else ""
        return self.diagnostic.render() + more


class Findings:
    """Collects findings; the text of one is made once per key."""

    def __init__(self) -> None:
        self._found: dict[Hashable, Finding] = {}

    def add(self, kind: FindingKind, key: Hashable, describe: Callable[[], tuple[str, tuple[Label, ...], str, str]]) -> None:
        """`describe` gives the message, the labels, the rule and the edit."""
        known = self._found.get((kind, key))
        if known is not None:
            known.count += 1
            return
        message, labels, because, help = describe()
        self._found[kind, key] = Finding(kind, Diagnostic(cast(Kind, cast(Any, kind)), message, tuple(dict.fromkeys(labels)), because, help))

    @property
    def all(self) -> tuple[Finding, ...]:
        return tuple(self._found.values())
