"""Products run by the simulator: bit for bit as numpy has them, without findings."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.gemm.thread_products import Case
from tilewright.ir.buffer import Scope
from tilewright.ir.stmt import Stmt
from tilewright.ir.visit import statements
from tilewright.sim.simulate import simulate


def check(case: Case, *, max_ways: int | None = None, seed: int = 0) -> list[Stmt]:
    """Runs a product and compares; `max_ways` bounds the bank conflicts. Gives the statements of the program."""
    program = case.program()
    a, b, c = case.data(seed)
    report = simulate(program, {"A": a, "B": b, "C": c})
    assert report.is_clean, report.render()
    np.testing.assert_array_equal(report.outputs["C"], case.expected(a, b, c, is_cleared=case.clear is True))
    if max_ways is not None:
        assert max(access.worst_ways for access in report.accesses if access.scope is Scope.SHARED) <= max_ways
    return list(statements(program.launches[0].body))


def names(body: list[Stmt]) -> set[Any]:
    """The instructions of a program."""
    return {stmt.instruction.name for stmt in body if hasattr(stmt, "instruction")}
