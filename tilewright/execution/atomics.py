"""Atomics on numpy arrays, many at once (floor 4)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tilewright.arith.evaluate import apply
from tilewright.dtypes import DType
from tilewright.execution.memory import Array
from tilewright.ir.expr import Op
from tilewright.ir.stmt import AtomicKind

_COMBINE = {
    AtomicKind.ADD: Op.ADD,
    AtomicKind.MAX: Op.MAX,
    AtomicKind.MIN: Op.MIN,
    AtomicKind.AND: Op.BIT_AND,
    AtomicKind.OR: Op.BIT_OR,
    AtomicKind.XOR: Op.BIT_XOR,
}


def combine(kind: AtomicKind, old: Array, value: Array, dtype: DType) -> Array:
    """What an atomic leaves in its elements."""
    if kind is AtomicKind.LOAD:
        return old
    return value if kind is AtomicKind.EXCHANGE else apply(_COMBINE[kind], dtype.scalar, (old, value))


def rounds(elements: Array) -> Iterable[Array]:
    """Splits accesses to `elements` (flat positions) into rounds in which no element occurs twice; each round as access numbers."""
    if not elements.size:
        return
    order = np.argsort(elements, kind="stable")
    ordered = elements[order]
    is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    starts = np.maximum.accumulate(np.where(is_first, np.arange(order.size), 0))
    occurrence = np.arange(order.size) - starts
    by_round = np.argsort(occurrence, kind="stable")
    yield from np.split(order[by_round], np.flatnonzero(np.diff(occurrence[by_round])) + 1)
