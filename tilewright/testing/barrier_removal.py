"""Takes each barrier and each wait out of a thread-level program and looks whether the simulator notices (floor 9).

A removal matters where the results change under some order of the warps. Which ones do is found out without the simulator's checks: by running the warps
one after the other, each as far as it gets, in several orders, with copies that land as late as they may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tilewright.errors import Span
from tilewright.intrin.nvidia.cp_async import CpAsyncWaitAll, CpAsyncWaitGroup
from tilewright.ir.program import Program
from tilewright.ir.stmt import Barrier, Stmt
from tilewright.ir.thread import InstructionCall
from tilewright.ir.visit import rewrite, statements
from tilewright.sim import SimulationOptions, SimulationReport, simulate

_ORDERS = 3


@dataclass(frozen=True)
class Removal:
    """What came of taking one statement out.

    is_noticed   the simulator reported something.
    matters      the results changed, or some threads waited for ever.
    """

    what: str
    span: Span
    is_noticed: bool
    matters: bool


def removable(program: Program) -> Iterator[Stmt]:
    """The barriers and waits of a program, in its order."""
    for launch in program.launches:
        for stmt in statements(launch.body):
            is_wait = isinstance(stmt, InstructionCall) and isinstance(stmt.instruction, (CpAsyncWaitAll, CpAsyncWaitGroup))
            if isinstance(stmt, Barrier) or is_wait:
                yield stmt


def without(program: Program, stmt: Stmt) -> Program:
    """The program without one statement."""
    launches = tuple(replace(launch, body=rewrite(launch.body, post=lambda s: None if s is stmt else s)) for launch in program.launches)
    return replace(program, launches=launches)


def try_removals(program: Program, arguments: Mapping[str, Any]) -> list[Removal]:
    """Each removal in turn. ValueError where the whole program has findings, or results that depend on the order."""
    whole = simulate(program, arguments, SimulationOptions(is_counting=False))
    if whole.findings:
        raise ValueError(f"the program is wrong to begin with:\n{whole.render()}")
    if _differs(program, arguments, whole):
        raise ValueError("the results depend on the order of the warps to begin with")
    found = []
    for stmt in removable(program):
        less = without(program, stmt)
        is_noticed = bool(simulate(less, arguments, SimulationOptions(is_counting=False)).findings)
        found.append(Removal(_describe(stmt), stmt.span, is_noticed, _differs(less, arguments, whole)))
    return found


def _describe(stmt: Stmt) -> str:
    if isinstance(stmt, InstructionCall):
        return stmt.instruction.name
    return f"barrier of the {stmt.scope.value}" if isinstance(stmt, Barrier) else type(stmt).__name__


def _differs(program: Program, arguments: Mapping[str, Any], expected: SimulationReport) -> bool:
    """Whether some order of the warps gives other results than expected, or none."""
    for seed in range(_ORDERS):
        report = simulate(program, arguments, SimulationOptions(seed, is_checked=False, is_scattered=True, is_counting=False))
        if report.findings or any(not _is_same(report.outputs[name], expected.outputs[name]) for name in expected.outputs):
            return True
    return False


def _is_same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(np.ascontiguousarray(a).view(np.uint8), np.ascontiguousarray(b).view(np.uint8)))
