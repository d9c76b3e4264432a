"""Whether memory that nobody has written matters (floor 7).

It may be moved, and computed with, as long as nothing that a program does depends on it: lanes beyond the end of a tile often hold nothing. A load of
such memory gives a great number; where an expression met one, it is evaluated once more with a small one, and the rows where the results differ
depend on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.execution.memory import Array
from tilewright.sim.expressions import Evaluation
from tilewright.sim.group import Group
from tilewright.sim.word import UNSET_BYTES


def evaluate(function: Evaluation, group: Group) -> tuple[Any, Any, Array | None]:
    """The value of an expression, what it would be with other unwritten memory, and the group's rows where the two differ: (n,), None where nowhere."""
    group.unset = None
    found = function(group, group.mask)
    if group.unset is None and not (group.others and not function.slots.isdisjoint(group.others)):
        return found, found, None
    kept, group.is_again = group.values, True
    group.values = list(kept)
    for slot, (other, _) in group.others.items():
        group.values[slot] = other
    try:
        again = function(group, group.mask)
    finally:
        group.values, group.is_again = kept, False
    if group.unset is None:
        group.unset = next(unset for slot, (_, unset) in group.others.items() if slot in function.slots)
    rows = group.rows
    differs: Array = np.zeros(len(group), np.bool_)
    for a, b in zip(found, again, strict=True) if isinstance(found, tuple) else ((found, again),):
        differs = np.asarray(differs | _rows_that_differ(np.asarray(a), np.asarray(b), rows, function.rank))
    return found, again, differs if differs.any() else None


def settled(function: Evaluation, group: Group) -> Any:
    """The value of an expression that decides what a program does; reported where it depends on memory that nobody has written."""
    found, _, differs = evaluate(function, group)
    if differs is not None and group.unset is not None:
        group.unset()
    return found


def _rows_that_differ(a: Array, b: Array, rows: Array | None, rank: int) -> Array:
    """`rank` is 1 for values with lanes."""
    if a is b:
        return np.asarray(False)
    shape = np.broadcast_shapes(a.shape, b.shape)
    bits = [np.ascontiguousarray(np.broadcast_to(x, shape)).view(f"u{x.dtype.itemsize}") for x in (a, b)]
    different = np.asarray(bits[0] != bits[1])
    if rank:
        different = np.asarray(different.any(axis=-1))
    return different[rows] if different.ndim and rows is not None else different


def fill(elements: Array, unset: Array, is_again: bool) -> Array:
    """(n, size) bytes with those that hold nothing replaced."""
    return np.where(unset, np.uint8(UNSET_BYTES[is_again]), elements)
