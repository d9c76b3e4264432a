"""Runs the groups of a batch until all rows have ended (floor 7): who runs next, barriers, joins, deadlocks.

A group runs until it waits. Groups that come to the end of a structure in which they parted wait there for each other as long as another group can run;
they are one group again where they agree on all that is open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilewright.errors import Label
from tilewright.execution.memory import Array
from tilewright.ir.stmt import WARP_THREADS, Barrier, BarrierScope
from tilewright.sim.asynchronous import AsyncCopies
from tilewright.sim.batch import Batch
from tilewright.sim.calls import report_inactive
from tilewright.sim.findings import FindingKind
from tilewright.sim.group import Group

WAITS = -1  # what a step gives when the group cannot go on; `Group.place` says where it will
Step = Callable[[Group, "Machine"], int]


@dataclass
class _Waiting:
    """A group at a barrier."""

    group: Group
    site: int
    rows: Array


@dataclass
class Machine:
    """on_grid_barrier   what the memory of the whole grid does when all blocks have met.
    is_scattered       groups that have parted never become one again.
    """

    batch: Batch
    copies: AsyncCopies
    steps: list[Step]
    on_grid_barrier: Callable[[], None]
    is_scattered: bool = False
    ready: list[Group] = field(default_factory=list)
    parked: list[Group] = field(default_factory=list)
    waiting: dict[int, list[_Waiting]] = field(default_factory=dict)  # by barrier number
    num_groups: int = 0

    def run(self, groups: list[Group]) -> None:
        """Runs groups and all that part from them."""
        self.ready, self.num_groups = groups, len(groups)
        while True:
            if self.ready:
                number = int(self.batch.rng.integers(len(self.ready))) if len(self.ready) > 1 else 0
                self._go_on(self.ready.pop(number))
            elif self.parked:
                self.ready, self.parked = self.parked, []
                for group in self.ready:
                    group.turns = 1  # it has waited long enough for the others
            elif any(self.waiting.values()):
                self._report_deadlock()
                return
            else:
                return

    def _go_on(self, group: Group) -> None:
        steps, place = self.steps, group.place
        while place >= 0:
            place = steps[place](group, self)

    def end(self, group: Group) -> int:
        """The group's rows have reached the end."""
        self.batch.exited |= self._mask(group)
        self.num_groups -= 1
        return WAITS

    def _mask(self, group: Group) -> Array:
        return np.ones(self.batch.rows.count, bool) if group.mask is None else group.mask

    # -- parting and meeting
    def part(self, group: Group, leaving: Array, place: int) -> None:
        """Rows of a group go on at another place, as a group of their own; the group keeps the others."""
        other = Group(leaving, list(group.values), group.constants, place)
        other.frames = [list(frame) for frame in group.frames]
        other.others = dict(group.others)
        group.set_mask(~leaving if group.mask is None else group.mask & ~leaving)
        self.ready.append(other)
        self.num_groups += 1

    def join(self, group: Group, place: int) -> int:
        """The group has come to the end of a structure in which groups may have parted; `place` comes next."""
        if self.num_groups == 1 or self.is_scattered:
            return place
        if group.turns:
            group.turns = 0
            return place
        group.place = place - 1  # the join itself, should it have to wait
        for other in self.parked:
            if other.place == group.place and _agree(group, other):
                self._unite(other, group)
                self.num_groups -= 1
                if self.num_groups > 1:
                    return WAITS
                self.parked.remove(other)
                self.ready.append(other)
                return WAITS
        self.parked.append(group)
        return WAITS

    def _unite(self, into: Group, group: Group) -> None:
        mine = self._mask(group)
        for slot, (a, b) in enumerate(zip(into.values, group.values, strict=True)):
            if a is b or b is None:
                continue
            into.values[slot] = b if a is None else _chosen(mine, b, a)
            other = group.others.get(slot) or into.others.get(slot)
            if other is not None:
                sides = (g.others[slot][0] if slot in g.others else value for g, value in ((group, b), (into, a)))
                into.others[slot] = _chosen(mine, *sides), other[1]
        union = self._mask(into) | mine
        into.set_mask(None if union.all() else union)

    # -- barriers
    def barrier(self, group: Group, site: int, node: Barrier, place: int) -> int:
        """The group has come to a barrier; `place` comes next."""
        match node.scope:
            case BarrierScope.WARP:
                self._meet_in_warps(group, site)
                return place
            case BarrierScope.GRID:
                return self._meet_in_grid(group, site, place)
        rows = self.batch.rows
        if node.num_threads is None and not self.waiting.get(node.barrier_id):
            complete = group.mask is None or group.mask is rows.exists
            present = np.arange(rows.num_blocks)
            if not complete:
                by_block = np.bincount(rows.block[group.rows], minlength=rows.num_blocks)
                present = np.flatnonzero(by_block)
                complete = bool((by_block[present] == rows.threads).all())
            if complete:
                self.batch.clocks.block_barrier(present)
                return place
        group.place = place
        self.waiting.setdefault(node.barrier_id, []).append(_Waiting(group, site, group.row_numbers))
        self._release(node)
        return WAITS

    def _release(self, node: Barrier) -> None:
        rows, waiting = self.batch.rows, self.waiting[node.barrier_id]
        numbers = np.concatenate([w.rows for w in waiting])
        arrived = np.bincount(rows.block[numbers], minlength=rows.num_blocks)
        expected = rows.threads if node.num_threads is None else node.num_threads
        for block in np.flatnonzero(arrived >= expected):
            self._check_arrivals([(w.site, w.rows[rows.block[w.rows] == block]) for w in waiting], node)
            threads = np.concatenate([w.rows[rows.block[w.rows] == block] for w in waiting])
            warps = np.unique(rows.warp[threads])
            if len(threads) == rows.threads:
                self.batch.clocks.block_barrier(np.asarray([block]))
            else:
                self.batch.clocks.barrier(int(block), warps)
        is_free = arrived >= expected
        left = []
        for each in waiting:
            freed = is_free[rows.block[each.rows]]
            if freed.all():
                self.ready.append(each.group)
            elif not freed.any():
                left.append(each)
            else:
                mask = np.zeros(rows.count, bool)
                mask[each.rows[freed]] = True
                self.part(each.group, mask, each.group.place)
                left.append(_Waiting(each.group, each.site, each.rows[~freed]))
        self.waiting[node.barrier_id] = left

    def _check_arrivals(self, arrivals: list[tuple[int, Array]], node: Barrier) -> None:
        """A warp comes to a barrier as a whole; without a number of threads, all come to the same statement."""
        rows = self.batch.rows
        sites = {site for site, numbers in arrivals if len(numbers)}
        for site, numbers in arrivals:
            lanes = np.bincount(rows.warp[numbers], minlength=rows.warps)
            full = np.minimum(WARP_THREADS, rows.threads - WARP_THREADS * np.arange(rows.warps))
            partial = np.flatnonzero((lanes > 0) & (lanes < full))
            if partial.size:
                self._report_partial(site, int(partial[0]), int(lanes[partial[0]]), numbers)
        if len(sites) > 1 and node.num_threads is None:
            first, second = sorted(sites)[:2]

            def describe() -> Any:
                return (
                    "some threads of a block wait at one barrier and the others at another one",
                    (Label(self.batch.journal.span(first), "some wait here"), Label(self.batch.journal.span(second), "others wait here")),
                    "a barrier of the block is one statement that all its threads come to",
                    "move the barrier out of the branches",
                )

            self.batch.journal.findings.add(FindingKind.BARRIER, (first, second), describe)

    def _report_partial(self, site: int, warp: int, lanes: int, numbers: Array) -> None:
        def describe() -> Any:
            block = self.batch.describe_block(int(self.batch.rows.grid_block[numbers[0]]))
            return (
                f"{lanes} lanes of warp {warp} of {block} come to this barrier without the others",
                (Label(self.batch.journal.span(site), "only some lanes of the warp come here"),),
                "a warp comes to a barrier as a whole",
                "move the barrier out of the branch",
            )

        self.batch.journal.findings.add(FindingKind.BARRIER, site, describe)

    def _meet_in_warps(self, group: Group, site: int) -> None:
        rows = self.batch.rows
        by_warp = self._mask(group).reshape(-1, WARP_THREADS)
        expected = np.ones_like(by_warp) if rows.exists is None else rows.exists.reshape(-1, WARP_THREADS)
        comes = by_warp.any(axis=1)
        partial = comes & (by_warp != expected).any(axis=1)
        if partial.any():
            report_inactive(site, self.batch, int(np.flatnonzero(partial)[0]), by_warp, "a barrier of the warp")
        self.batch.clocks.warp_barrier(np.flatnonzero(comes & ~partial))

    def _meet_in_grid(self, group: Group, site: int, place: int) -> int:
        group.place = place
        waiting = self.waiting.setdefault(-1, [])
        waiting.append(_Waiting(group, site, group.row_numbers))
        rows = self.batch.rows
        if sum(len(w.rows) for w in waiting) == rows.threads * rows.num_blocks:
            self.batch.clocks.block_barrier(np.arange(rows.num_blocks))
            self.on_grid_barrier()
            self.ready += [w.group for w in waiting]
            waiting.clear()
        return WAITS

    def _report_deadlock(self) -> None:
        rows, exited = self.batch.rows, self.batch.exited
        waiting = [w for number in sorted(self.waiting) for w in self.waiting[number]]
        block = int(rows.block[waiting[0].rows[0]])
        here = [(w, int((rows.block[w.rows] == block).sum())) for w in waiting]
        here = [(w, count) for w, count in here if count]
        gone = int((exited & (rows.block == block)).sum())

        def describe() -> Any:
            name = self.batch.describe_block(int(rows.grid_block[waiting[0].rows[0]]))
            others = f"; {gone} have ended" if gone else ""
            labels = tuple(Label(self.batch.journal.span(w.site), f"{count} of {rows.threads} threads wait here") for w, count in here)
            return (
                f"{name} waits for ever: {', '.join(f'{count} threads' for _, count in here)} at {len(here)} barrier{'s' * (len(here) > 1)}{others}",
                labels,
                "a barrier lets nobody pass before all the threads that it counts have come",
                "let all threads come to the barrier, as often as each other",
            )

        self.batch.journal.findings.add(FindingKind.BARRIER, tuple(sorted({w.site for w, _ in here})), describe)


def _agree(a: Group, b: Group) -> bool:
    """Whether two groups at one place have the same loops open, in the same turn."""
    return len(a.frames) == len(b.frames) and all(x[0] == y[0] for x, y in zip(a.frames, b.frames, strict=True))


def _chosen(where: Array, a: Any, b: Any) -> Any:
    if np.ndim(a) == 0 and np.ndim(b) == 0 and a == b:
        return a
    rank = max(np.ndim(a), np.ndim(b))
    return np.where(where.reshape(-1, *(1,) * (rank - 1)) if rank > 1 else where, a, b)
