"""Random integer expressions over small domains, and their values at every point: the oracle of the tests in this folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest

from tilewright import dtypes
from tilewright.arith.bounds import Facts
from tilewright.arith.evaluate import evaluate
from tilewright.errors import Span
from tilewright.ir import expr as ir
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import Expr, Op

DATA = np.array([3, -2, 7, 0, 5, 5, -8, 1], np.int32)
TABLE = Buffer("table", dtypes.int32, (8,), Scope.GLOBAL, Span("test.py", 1))
OCTETS = Buffer("octets", dtypes.uint8, (8,), Scope.GLOBAL, Span("test.py", 1))


def load(buffer: Buffer, indices: tuple[np.ndarray, ...], mask: np.ndarray) -> np.ndarray:
    """Elements of TABLE or OCTETS; an index outside is an error, since every load of the generator is guarded."""
    index, mask = np.broadcast_arrays(indices[0], mask)
    assert ((index >= 0) & (index < 8) | ~mask).all(), "a load outside its buffer"
    return (DATA if buffer is TABLE else DATA.view(np.uint32).astype(np.uint8))[np.where(mask, index, 0)]


@dataclass
class Domain:
    """Variables with the values that they take; every point of the box satisfies `facts`."""

    values: dict[Expr, range]
    facts: Facts

    @property
    def variables(self) -> list[Expr]:
        return list(self.values)

    def points(self) -> dict[Expr, np.ndarray]:
        grids = np.meshgrid(*(np.array(r, np.int32) for r in self.values.values()), indexing="ij")
        return dict(zip(self.values, (g.ravel() for g in grids), strict=True))

    def evaluate(self, expr: Expr, points: Mapping[Expr, np.ndarray] | None = None) -> np.ndarray:
        points = self.points() if points is None else points
        size = next(iter(points.values())).size
        return np.broadcast_to(evaluate(expr, points, load), (size,))


class Generator:
    """Random expressions, different for each seed and the same in every run."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.domain = self._domain()

    def _domain(self) -> Domain:
        r = self.random
        i, j, x, n = (ir.var(name) for name in "ijxn")
        extents = [r.choice([1, 2, 4, 5, 8]), r.choice([2, 3, 4, 6])]
        low = r.randint(-9, 2)
        step = r.choice([1, 1, 2, 4])
        n_values = range(step, step * r.randint(2, 4) + 1, step)
        values = {i: range(extents[0]), j: range(extents[1]), x: range(low, low + r.randint(1, 12)), n: n_values}
        facts = Facts().with_box((i, j), (extents[0], extents[1])).with_range(x, values[x][0], values[x][-1])
        return Domain(values, facts.with_range(n, n_values[0], n_values[-1], step))

    def integer(self, depth: int) -> Expr:
        r, v = self.random, self.domain.variables
        if depth == 0:
            return r.choice([*v, *v, *v, ir.const(r.randint(-6, 9)), ir.const(r.choice([4, 8, 16]))])
        a = self.integer(depth - 1)
        kind = r.randint(0, 19)
        if kind < 6:
            return ir.binary(r.choice([Op.ADD, Op.SUB]), a, self.integer(depth - 1))
        if kind < 9:
            return a * r.choice([2, 3, 4, 8, -1, -2])
        if kind < 12:
            return a // r.choice([2, 3, 4, 8, 16, -3])
        if kind < 15:
            return a % r.choice([2, 3, 4, 8, 16, -3])
        if kind == 15:
            return ir.binary(r.choice([Op.FLOORDIV, Op.FLOORMOD]), a, v[3])
        if kind == 16:
            return ir.binary(r.choice([Op.MIN, Op.MAX]), a, self.integer(depth - 1))
        if kind == 17:
            return ir.select(self.condition(depth - 1), a, self.integer(depth - 1), is_lazy=r.random() < 0.7)
        if kind == 18:
            return r.choice(
                [
                    lambda: ir.load(TABLE, (a % 8,)),
                    lambda: ir.cast(ir.load(OCTETS, (a & 7,)), dtypes.int32),
                    lambda: a * self.integer(0),
                    lambda: a >> r.randint(0, 3),
                    lambda: a << r.randint(0, 2),
                    lambda: a & r.choice([1, 3, 5, 7]),
                    lambda: a ^ 3,
                    lambda: -a,
                    lambda: ir.binary(Op.TRUNCDIV, a, r.choice([2, 3, 4])),
                    lambda: ir.binary(Op.TRUNCMOD, a, r.choice([2, 3, 4])),
                ]
            )()
        index = self.integer(depth - 1)
        return ir.select((index >= 0) & (index < 8), ir.load(TABLE, (index,)), a, is_lazy=True)

    def condition(self, depth: int) -> Expr:
        r = self.random
        kind = r.randint(0, 9)
        if depth > 0 and kind < 3:
            return ir.logical(r.choice([Op.AND, Op.OR]), self.condition(depth - 1), self.condition(depth - 1))
        if depth > 0 and kind == 3:
            return ~self.condition(depth - 1)
        return ir.binary(r.choice([Op.LT, Op.LE, Op.GT, Op.GE, Op.EQ, Op.NE]), self.integer(depth), self.integer(max(0, depth - 1)))


@pytest.fixture(scope="session")
def generator() -> type[Generator]:
    return Generator


@pytest.fixture(scope="session")
def domain() -> Any:
    """domain(facts, {variable: range}) for hand-written cases."""
    return lambda facts, values: Domain(values, facts)
