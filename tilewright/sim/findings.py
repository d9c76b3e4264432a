"""What the simulator finds wrong, as diagnostics; each mistake once, with how often it happened (floor 7)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from tilewright.errors import Diagnostic, Kind, Label


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


@dataclass
class Finding:
    """kind, diagnostic    the first occurrence.
    count                  how many statement executions showed it.
    """

    kind: FindingKind
    diagnostic: Diagnostic
    count: int = 1

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
