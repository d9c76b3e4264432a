"""Bank conflicts and memory sectors, counted from the addresses of a run (floor 7).

Shared memory: 32 banks of 4 bytes; a warp's access of 8 or 16 bytes per lane is served in 2 or 4 phases; lanes that read one word share it. The ways of
a phase are the most distinct slots that one bank must give (`tilewright.layout.banks` predicts the same number from layouts).
Global memory: a request moves the distinct 32-byte sectors that its lanes touch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.errors import Span
from tilewright.execution.memory import Array
from tilewright.ir.buffer import Scope
from tilewright.ir.stmt import WARP_THREADS

SECTOR_BYTES = 32
_BANK_SPAN_BYTES = 128
_KEPT_PATTERNS = 4096


@dataclass
class AccessCount:
    """What one statement did to one kind of memory.

    requests        accesses of a warp.
    bytes           that the threads asked for.
    transactions    for shared memory the phases served, conflicts included; for global memory the sectors moved.
    ideal           the least number of transactions for these bytes.
    worst_ways      the most ways of a phase (shared), the most sectors of a request (global).
    """

    span: Span
    scope: Scope
    buffer: str
    requests: int = 0
    bytes: int = 0
    transactions: int = 0
    ideal: int = 0
    worst_ways: int = 0


class Traffic:
    """Counts per statement, memory and buffer."""

    def __init__(self) -> None:
        self.counts: dict[tuple[int, str], AccessCount] = {}
        self._patterns: dict[tuple[bytes, int, Scope], tuple[int, int, int, int]] = {}

    def note(self, site: int, span: Span, scope: Scope, buffer: str, lanes: Array | None, addresses: Array, size_bytes: int) -> None:
        """One access: byte addresses (n,) of the rows that make it; `lanes` are their numbers over the batch, None for all rows."""
        found = self.counts.get((site, buffer))
        if found is None:
            found = self.counts[site, buffer] = AccessCount(span, scope, buffer)
        if not addresses.size:
            return
        relative = addresses - (int(addresses.min()) & -_BANK_SPAN_BYTES)
        if lanes is not None:
            placed = np.full(-(-(int(lanes[-1]) + 1) // WARP_THREADS) * WARP_THREADS, -1, np.int64)
            placed[lanes] = relative
            relative = placed
        key = (relative.tobytes(), size_bytes, scope)
        counted = self._patterns.get(key)
        if counted is None:
            if len(self._patterns) >= _KEPT_PATTERNS:
                self._patterns.clear()
            warps = relative.reshape(-1, WARP_THREADS)
            counted = self._patterns[key] = bank_phases(warps, size_bytes) if scope is Scope.SHARED else sectors(warps, size_bytes)
        found.bytes += addresses.size * size_bytes
        found.requests += counted[0]
        found.transactions += counted[1]
        found.ideal += counted[2]
        found.worst_ways = max(found.worst_ways, counted[3])


def bank_phases(addresses: Array, size_bytes: int) -> tuple[int, int, int, int]:
    """Requests, phases with conflicts, phases without, worst ways of (warps, 32) byte addresses; -1 where a lane takes no part."""
    slot_bytes = max(4, size_bytes)
    slots = np.where(addresses < 0, -1, addresses // slot_bytes)
    requests = int((slots >= 0).any(axis=1).sum())
    columns = _BANK_SPAN_BYTES // slot_bytes
    phases = np.sort(slots.reshape(-1, columns), axis=1)  # a phase serves as many lanes as one row of banks has slots
    is_distinct = phases >= 0
    is_distinct[:, 1:] &= phases[:, 1:] != phases[:, :-1]
    row, place = np.nonzero(is_distinct)
    ways = np.bincount(row * columns + phases[row, place] % columns, minlength=phases.shape[0] * columns).reshape(-1, columns).max(axis=1)
    return requests, int(ways.sum()), int((ways > 0).sum()), int(ways.max(initial=0))


def sectors(addresses: Array, size_bytes: int) -> tuple[int, int, int, int]:
    """Requests, sectors moved, least sectors, most sectors of a request."""
    first = np.where(addresses < 0, -1, addresses // SECTOR_BYTES)
    found = np.sort(first, axis=1)
    is_distinct = found >= 0
    is_distinct[:, 1:] &= found[:, 1:] != found[:, :-1]
    per_request = is_distinct.sum(axis=1)
    active = (first >= 0).sum(axis=1)
    distinct = np.sort(addresses, axis=1)
    is_new = distinct >= 0
    is_new[:, 1:] &= distinct[:, 1:] != distinct[:, :-1]
    least = -(-is_new.sum(axis=1) * size_bytes // SECTOR_BYTES)
    return int((active > 0).sum()), int(per_request.sum()), int(least.sum()), int(per_request.max(initial=0))
