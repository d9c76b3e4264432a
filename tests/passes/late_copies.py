"""A reference whose asynchronous copies land as late as they may: at the wait for their group, with a destination that holds nothing until then."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from tilewright.ir.buffer import Region
from tilewright.ir.expr import const
from tilewright.ir.tileop import ReferenceEnvironment
from tilewright.ops.async_copy import CommitGroup, WaitGroup
from tilewright.ops.copy import Copy


@contextmanager
def late_copies() -> Iterator[list[list[Copy]]]:
    """Inside, `run_reference` lands copies late; gives the groups that are under way, the open one last."""
    groups: list[list[Copy]] = [[]]
    plain = Copy.reference

    def fixed(region: Region, environment: ReferenceEnvironment) -> Region:
        box = environment.box(region)
        return dataclasses.replace(region, starts=tuple(const(s) for s, _ in box), extents=tuple(n for _, n in box))

    def issue(self: Copy, environment: ReferenceEnvironment) -> None:
        if not self.is_async:
            plain(self, environment)
            return
        extents = tuple(const(int(environment.value(e))) for e in self.extents)
        copy = dataclasses.replace(self, src=fixed(self.src, environment), dst=fixed(self.dst, environment), extents=extents, is_async=False)
        at = tuple(slice(s, s + n) for s, n in environment.box(copy.dst))
        target = environment.array(copy.dst.buffer)
        target[at] = np.random.default_rng(len(groups)).integers(-99, -50, target[at].shape).astype(target.dtype)
        groups[-1].append(copy)

    def commit(self: CommitGroup, environment: ReferenceEnvironment) -> None:
        groups.append([])

    def wait(self: WaitGroup, environment: ReferenceEnvironment) -> None:
        closed = len(groups) - 1
        for group in groups[: max(0, closed - self.pending)]:
            for copy in group:
                plain(copy, environment)
            group.clear()

    with pytest.MonkeyPatch.context() as patch:
        changes: list[tuple[type, Any]] = [(Copy, issue), (CommitGroup, commit), (WaitGroup, wait)]
        for kind, method in changes:
            patch.setattr(kind, "reference", method)
        yield groups
