"""Layouts from elsewhere (floor 1): user index functions, user fragments, and CuTe shape:stride pairs.

A function is evaluated on every point of its tile (numpy arrays where it can take them), its value on the digit basis proposes a layout,
and the proposal is kept only if it agrees on all points. So a recovered layout is exact, and anything else becomes a `TableLayout`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tilewright.layout.digits import OFFSET, REG, REPLICA, THREAD, Axis, LayoutError, factor, tile_axes
from tilewright.layout.embedding import Embedding, MemoryLayout
from tilewright.layout.gf2 import remap, set_bits
from tilewright.layout.layout import Layout
from tilewright.layout.table import Collision, TableLayout, first_collision, flat_index

Ints = npt.NDArray[np.int64]
IndexFunction = Callable[..., object]
CuteTree = int | Sequence["CuteTree"]


class CollisionError(LayoutError):
    """A map sends two elements to one place; `collision` names them."""

    def __init__(self, collision: Collision) -> None:
        super().__init__(f"elements {collision.first} and {collision.second} both map to {collision.image}")
        self.collision = collision


# ------------------------------------------------------------------------------------------------------------------------- evaluation


def evaluate(extents: Sequence[int], function: IndexFunction) -> Ints:
    """The values of `function(i, j, …)` on the whole tile: shape (*extents, number of coordinates it returns).

    Tried once on index arrays; a function that needs plain ints (if, min, tables) is called point by point.
    Errors of the function itself pass.
    Raises: LayoutError if a result is not made of non-negative integers, or if the number of coordinates varies.
    """
    grids = np.meshgrid(*(np.arange(extent, dtype=np.int64) for extent in extents), indexing="ij") if extents else []
    try:
        values = _as_table(function(*grids), tuple(extents))
    except (TypeError, ValueError, IndexError, KeyError, AttributeError):  # arrays do not work in `if`, min(), tuples: use plain ints
        points = [_as_table(function(*(int(grid[point]) for grid in grids)), ()) for point in np.ndindex(*extents)]
        if len({len(point) for point in points}) != 1:
            raise LayoutError("the index function returns a varying number of coordinates") from None
        values = np.stack(points).reshape(*extents, -1)
    if values.min(initial=0) < 0:
        point = np.argwhere((values < 0).any(axis=-1))[0]
        raise LayoutError(f"the index function gives a negative coordinate at {tuple(int(x) for x in point)}")
    return values


def _as_table(result: object, extents: tuple[int, ...]) -> Ints:
    parts = list(result) if isinstance(result, (tuple, list)) else [result]
    columns = []
    for part in parts:
        column = np.asarray(part)
        if column.dtype.kind not in "iu":
            raise LayoutError(f"an index function must return integers, got {part!r}")
        columns.append(np.broadcast_to(column.astype(np.int64), extents))
    if not columns:
        raise LayoutError("the index function returns no coordinate")
    return np.stack(columns, axis=-1)


# --------------------------------------------------------------------------------------------------------------------------- recovery


def recover_memory_layout(addresses: Ints, axes: Sequence[Axis], out: str = OFFSET) -> MemoryLayout | None:
    """The layout and embedding with exactly these addresses (an array shaped like the tile), or None if there is none we can find.

    Found: every homomorphism to a mixed-radix offset; every sum of digit strides (padding, replication); and padded swizzles, where
    XORed strides are revealed by pairs of digits.
    """
    layout = recover_layout(addresses, axes, out)
    if layout is not None:
        return MemoryLayout.natural(layout)
    candidate = _propose_strides(addresses, tuple(axes), out)
    return candidate if np.array_equal(candidate.table(), addresses) else None


def recover_layout(values: Ints, axes: Sequence[Axis], out: str = OFFSET) -> Layout | None:
    """The homomorphism axes -> (out,) with exactly these values and a gapless numbering, or None if there is none."""
    if values.flat[0] != 0:
        return None
    steps = _basis_values(values, axes)
    odd = {step: radix for radix, step in zip(_radices(axes), steps, strict=True) if radix != 2 and step}
    largest = int(values.max())
    digits: list[int] = []  # radices of the output: odd where an odd input digit steps exactly that place value
    places: list[int] = []
    place = 1
    while place <= largest:
        digits.append(odd.get(place, 2))
        places.append(place)
        place *= digits[-1]
    columns = []
    for radix, step in zip(_radices(axes), steps, strict=True):
        mask = rest = 0
        if radix == 2 and step >= 0:
            rest = step
            for bit, out_radix in enumerate(digits):
                rest, digit = divmod(rest, out_radix)
                if digit and (digit > 1 or out_radix != 2):
                    return None
                mask |= digit << bit
        elif step:
            if step not in places or digits[places.index(step)] != radix:
                return None
            mask = 1 << places.index(step)
        if rest:
            return None
        columns.append(mask)
    try:
        layout = Layout(tuple(axes), (Axis(out, tuple(digits)),), tuple(columns))
    except LayoutError:  # two odd digits with the same step: a sum, not a homomorphism of ours
        return None
    return layout if np.array_equal(layout.table()[..., 0], values) else None


def _radices(axes: Sequence[Axis]) -> list[int]:
    return [radix for axis in axes for radix in axis.digits]


def _basis_points(axes: Sequence[Axis]) -> list[tuple[int, ...]]:
    """The point with one digit at 1, for every digit."""
    return [tuple(place if other is axis else 0 for other in axes) for axis in axes for place in axis.places]


def _basis_values(values: Ints, axes: Sequence[Axis]) -> list[int]:
    origin = int(values.flat[0])
    return [int(values[point]) - origin for point in _basis_points(axes)]


def _propose_strides(values: Ints, axes: tuple[Axis, ...], out: str) -> MemoryLayout:
    """Splits the steps of all digits into strides.

    Two digits that share a stride s (XOR) give f(a + b) = f(a) + f(b) - 2 s, so pairs reveal it.
    """
    radices, points, steps = _radices(axes), _basis_points(axes), _basis_values(values, axes)
    origin = int(values.flat[0])
    strides: list[int] = []
    founders: list[int] = []  # the digit that introduced each stride
    masks: dict[int, int] = {}

    def total(mask: int) -> int:
        return sum(strides[bit] for bit in set_bits(mask))

    for digit in sorted(range(len(steps)), key=lambda d: (abs(steps[d]), d)):
        mask = 0
        for bit, founder in enumerate(founders):
            if radices[digit] != 2 or radices[founder] != 2:
                continue
            both = int(values[tuple(a + b for a, b in zip(points[digit], points[founder], strict=True))]) - origin
            shared = (steps[digit] + steps[founder] - both) // 2
            if shared != total(mask & masks[founder]):  # then they share this stride too; a wrong guess fails the check on all points
                mask |= 1 << bit
        rest = steps[digit] - total(mask)
        if rest:
            mask |= 1 << len(strides)
            strides.append(rest)
            founders.append(digit)
        masks[digit] = mask
    order = sorted(range(len(strides)), key=lambda bit: (abs(strides[bit]), bit))
    position = [order.index(bit) for bit in range(len(order))]
    digits = tuple(radices[founders[bit]] for bit in order)
    columns = tuple(remap(masks[digit], position) for digit in range(len(steps)))
    embedding = Embedding(digits, tuple(strides[bit] for bit in order), origin)
    return MemoryLayout(Layout(axes, (Axis(out, digits),), columns), embedding)


# --------------------------------------------------------------------------------------------------------------- user functions


def from_function(extents: Sequence[int], function: IndexFunction, names: Sequence[str] | None = None) -> MemoryLayout | TableLayout:
    """`T.Layout(shape, fn)`: tile -> address. Several returned coordinates are numbered row-major over the box they fill.

    Raises: CollisionError if two elements share an address; LayoutError as `evaluate`.
    """
    values = evaluate(extents, function)
    collision = first_collision(values)
    if collision is not None:
        raise CollisionError(collision)
    addresses = flat_index(values)
    axes = _named_axes(extents, names)
    recovered = recover_memory_layout(addresses, axes)
    return recovered or TableLayout(tuple(axis.name for axis in axes), (OFFSET,), addresses[..., None])


def _named_axes(extents: Sequence[int], names: Sequence[str] | None) -> tuple[Axis, ...]:
    axes = tile_axes(tuple(extents))
    return axes if names is None else tuple(Axis(name, axis.digits) for name, axis in zip(names, axes, strict=True))


def registers_by_thread(extents: Sequence[int], thread_of: IndexFunction, replicate: int = 1) -> Ints:
    """The registers of a fragment of which only the threads are given: those of each thread are numbered in row-major order of its elements.

    Returns an array of shape (*extents, replicate), or extents without replicas; `thread_of` takes the same indices.
    Raises: LayoutError if the function gives more than a thread, or as `evaluate`.
    """
    shape = (*extents, replicate) if replicate > 1 else tuple(extents)
    threads = evaluate(shape, thread_of)
    if threads.shape[-1] != 1:
        raise LayoutError(f"a thread function returns one coordinate, this one returns {threads.shape[-1]}")
    elements = np.arange(threads.size) // replicate
    held, of_place = np.unique(threads.reshape(-1) * threads.size + elements, return_inverse=True)  # by thread, then by element; each pair once
    owners = held // threads.size
    registers = np.arange(held.size) - np.searchsorted(owners, owners)
    return np.asarray(registers[of_place.reshape(-1)].reshape(shape), dtype=np.int64)


def fragment_from_function(
    extents: Sequence[int], function: IndexFunction, num_threads: int, replicate: int = 1, names: Sequence[str] | None = None
) -> Layout | TableLayout:
    """`T.Fragment(shape, forward_fn)`: `function(i, j, …[, replica]) -> (thread, register)` as a fragment (reg, thread) -> tile.

    Threads and registers that the function leaves empty hold replicas. The replica index is passed only if `replicate` > 1. A map that is
    no homomorphism comes back as the TableLayout tile (and replica) -> (thread, reg).
    Raises: CollisionError if one register of one thread would hold two elements; LayoutError for threads out of range, or as `evaluate`.
    """
    axes = _named_axes(extents, names)
    if replicate > 1:
        axes = (*axes, Axis.of(REPLICA, replicate))
    values = evaluate([axis.extent for axis in axes], function)
    if values.shape[-1] != 2:
        raise LayoutError(f"a fragment function returns (thread, register), this one returns {values.shape[-1]} coordinates")
    if values[..., 0].max() >= num_threads:
        point = np.unravel_index(int(values[..., 0].argmax()), values.shape[:-1])
        raise LayoutError(f"element {tuple(int(x) for x in point)} is given to thread {values[..., 0].max()} of {num_threads}")
    collision = first_collision(values, relevant=range(len(extents)))
    if collision is not None:
        raise CollisionError(collision)
    fallback = TableLayout(tuple(axis.name for axis in axes), (THREAD, REG), values)
    thread, register = recover_layout(values[..., 0], axes, THREAD), recover_layout(values[..., 1], axes, REG)
    thread_digits = factor(num_threads)
    if thread is None or register is None or thread.out_radices != thread_digits[: len(thread.out_radices)]:
        return fallback
    shift = len(register.out_radices)
    columns = (low | high << shift for low, high in zip(register.columns, thread.columns, strict=True))
    forward = Layout(axes, (*register.outs, Axis(THREAD, thread_digits)), tuple(columns))
    if replicate > 1:
        forward = forward.drop_redundant(REPLICA)
    if not forward.is_injective:  # replicas and elements overlap in a way only the table expresses
        return fallback
    backward = forward.left_inverse()
    return backward.drop_output(REPLICA) if replicate > 1 else backward


# ------------------------------------------------------------------------------------------------------------------------------- CuTe


def from_cute(shape: CuteTree, stride: CuteTree, names: Sequence[str] | None = None) -> MemoryLayout:
    """A CuTe layout shape:stride as tile -> address; each top-level mode is one axis, nested modes are its digits, leftmost fastest.

    Stride 0 replicates. An int shape is one mode. Raises: LayoutError if shape and stride are not congruent.
    """
    modes = list(zip(_modes(shape), _modes(stride), strict=True)) if _congruent(shape, stride) else None
    if modes is None:
        raise LayoutError(f"shape {shape} and stride {stride} are not congruent")
    axes, strides = [], []
    for position, (mode_shape, mode_stride) in enumerate(modes):
        digits: list[int] = []
        steps: list[int] = []
        for extent, step in zip(_leaves(mode_shape), _leaves(mode_stride), strict=True):
            leaf = Axis.of("leaf", extent)
            digits += leaf.digits
            steps += [step * place for place in leaf.places]
        axes.append(Axis(names[position] if names is not None else f"d{position}", tuple(digits)))
        strides.append(steps)
    return MemoryLayout.strided(axes, strides)


def _modes(tree: CuteTree) -> Sequence[CuteTree]:
    return [tree] if isinstance(tree, int) else tree


def _leaves(tree: CuteTree) -> list[int]:
    return [tree] if isinstance(tree, int) else [leaf for branch in tree for leaf in _leaves(branch)]


def _congruent(shape: CuteTree, stride: CuteTree) -> bool:
    if isinstance(shape, int) or isinstance(stride, int):
        return isinstance(shape, int) and isinstance(stride, int)
    return len(shape) == len(stride) and all(_congruent(s, d) for s, d in zip(shape, stride, strict=True))


def to_cute(memory: MemoryLayout) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]] | None:
    """shape and stride, one list of modes per input axis with contiguous digits merged; None if the layout swizzles or has a base."""
    strides = memory.embedding.strides_elements
    if memory.embedding.base_elements or any(column.bit_count() > 1 for column in memory.layout.columns):
        return None
    shapes_out, strides_out = [], []
    for axis in memory.layout.ins:
        modes: list[tuple[int, int]] = []
        for radix, column in zip(axis.digits, memory.layout.columns_of(axis.name), strict=True):
            step = strides[column.bit_length() - 1] if column else 0
            if modes and step == modes[-1][0] * modes[-1][1]:
                modes[-1] = (modes[-1][0] * radix, modes[-1][1])
            else:
                modes.append((radix, step))
        modes = modes or [(1, 0)]
        shapes_out.append(tuple(extent for extent, _ in modes))
        strides_out.append(tuple(step for _, step in modes))
    return tuple(shapes_out), tuple(strides_out)
