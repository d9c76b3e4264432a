"""Random parallel loops, serial loops and branches around other statements (floor 9)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tilewright import dtypes
from tilewright.dtypes import promote
from tilewright.testing import bounds
from tilewright.testing.bounds import Bound
from tilewright.testing.expressions import Expressions, Index, Term, integer
from tilewright.testing.scene import Scene, Tensor, Tile
from tilewright.testing.tile_statements import gemm, reduce

LOOP_NAMES = "ijlm"
COUNTS = (1, 1, 2, 2, 3, 4, 5)


class Leaves:
    """Reads of tiles and tensors at the indices of a parallel loop."""

    def __init__(self, scene: Scene, indices: list[Index], *, without: Tile | None = None) -> None:
        self.scene, self.indices, self.without = scene, indices, without

    def __call__(self) -> Term:
        tiles = [t for t in self.scene.readable() if t is not self.without]
        if tiles and self.scene.rng.random() < 0.8:
            return self.element(self.scene.rng.choice(tiles))
        return self.global_element(self.scene.rng.choice(self.scene.inputs)) if self.scene.rng.random() < 0.6 else integer(self.scene.rng.randrange(-3, 4))

    def element(self, tile: Tile) -> Term:
        """An element of a tile: the loop's own, a mirrored, shifted or fixed one, or one that only a lazy choice keeps inside."""
        rng = self.scene.rng
        places, guards = [], []
        for axis, n in enumerate(tile.shape):
            index = self.indices[axis] if axis < len(self.indices) and rng.random() < 0.7 else rng.choice(self.indices)
            draw = rng.random()
            if index.extent <= n:
                places.append(index.text if draw < 0.75 else f"{n - 1} - {index.text}" if draw < 0.85 else f"({index.text} + {rng.randrange(n)}) % {n}")
            elif draw < 0.4:
                places.append(f"{index.text} % {n}")
            elif draw < 0.7:
                places.append(f"T.min({index.text}, {n - 1})")
            elif draw < 0.85:
                guards.append(f"{index.text} < {n}")
                places.append(index.text)
            else:
                places.append(str(rng.randrange(n)))
        text = f"{tile.name}[{', '.join(places)}]"
        if not guards:
            return Term(text, tile.readable_bound)
        bound = bounds.extremum(tile.readable_bound, integer(0).bound)
        guard = " and ".join(guards)
        return Term(f"({text} if {guard} else 0)" if rng.random() < 0.5 else f"T.if_then_else({guard}, {text}, 0)", bound or tile.readable_bound)

    def global_element(self, tensor: Tensor) -> Term:
        """An element of a tensor, now and then outside it, where it is 0."""
        rng = self.scene.rng
        places = []
        for axis, size in enumerate(tensor.sizes):
            index = self.indices[axis] if axis < len(self.indices) and rng.random() < 0.6 else rng.choice(self.indices)
            along = [a for a in self.scene.axes if a.size == size]
            draw = rng.random()
            if along and draw < 0.6:
                places.append(f"{rng.choice(along).start} + {index.text}" + rng.choice(("", "", " + 1", " - 2")))
            else:
                places.append(index.text if draw < 0.8 else f"{index.text} - 1" if draw < 0.9 else str(rng.randrange(size.value)))
        assert tensor.bound is not None
        return Term(f"{tensor.name}[{', '.join(places)}]", tensor.bound)


@contextmanager
def parallel_loop(scene: Scene, shape: tuple[int, ...]) -> Iterator[list[Index]]:
    """Writes `for i, j in T.Parallel(...)`; gives the loop's indices."""
    names = [scene.name(LOOP_NAMES[a % 4]) for a in range(len(shape))]
    option = scene.rng.choice(("", "", "", "", ", coalesced_width=2"))
    with scene.block(f"for {', '.join(names)} in T.Parallel({', '.join(map(str, shape))}{option}):"):
        yield [Index(name, n) for name, n in zip(names, shape, strict=True)]


def elementwise(scene: Scene) -> bool:
    """Every element of a tile computed from others at its place, possibly in branches."""
    rng = scene.rng
    target = scene.destination(scene.small_shape())
    with parallel_loop(scene, target.shape) as own:
        leaves = Leaves(scene, own, without=target)
        old = target.bound
        at = f"{target.name}[{', '.join(i.text for i in own)}]"

        def leaf() -> Term:
            return Term(at, old) if old is not None and rng.random() < 0.3 else leaves()

        expressions = Expressions(rng, leaf, own + scene.indices)
        draw = rng.random()
        if draw < 0.2 and scene.turns * len(scene.lines) < 400:
            total = _inner_loop(scene, expressions, leaves, own)
            made = [total if bounds.convert(total.bound, target.dtype) is not None else integer(1)]
            scene.emit(f"{at} = {made[0].text}")
        elif draw < 0.4:
            made = [expressions.of_dtype(target.dtype, 2) for _ in range(rng.choice((2, 2, 3)))]
            for k, term in enumerate(made):
                head = "else" if k == len(made) - 1 else f"{'elif' if k else 'if'} {expressions.condition(1).text}"
                with scene.block(f"{head}:"):
                    scene.emit(f"{at} = {term.text}")
        elif draw < 0.5:
            named = scene.name("x")
            first = expressions.value(2)
            scene.emit(f"{named} = {first.text}")
            second = expressions.of_dtype(target.dtype, 1)
            total_bound = bounds.add(first.bound, second.bound)
            if total_bound is not None and bounds.convert(total_bound, target.dtype) is not None:
                second = Term(f"{named} + {second.text}", total_bound)
            made = [second]
            scene.emit(f"{at} = {second.text}")
        else:
            made = [expressions.of_dtype(target.dtype, 3)]
            scene.emit(f"{at} = {made[0].text}")
    for k, term in enumerate(made):
        bound = bounds.convert(term.bound, target.dtype)
        assert bound is not None
        scene.write(target, bound, is_whole=k == 0)
    return True


def _inner_loop(scene: Scene, expressions: Expressions, leaves: Leaves, own: list[Index]) -> Term:
    """A serial loop per element that sums into a T.alloc_var; with break and continue now and then."""
    rng = scene.rng
    dtype, count = rng.choice((dtypes.int32, dtypes.float32)), rng.choice(COUNTS)
    total, index = scene.variable(dtype), Index(scene.name("k"), count)
    scene.emit(f"{total} = {rng.choice((0, 0, 1))}")
    inner = Expressions(rng, Leaves(scene, [*own, index], without=leaves.without), [*own, index])
    term = inner.of_dtype(dtype, 1)
    value = bounds.convert(term.bound, dtype)
    assert value is not None
    bound = bounds.accumulate(dtype, value, count, Bound(dtype, 1.0))
    if bound is None or not value.fits:
        term, bound = integer(1), Bound(dtype, float(count + 1))
    is_while = rng.random() < 0.25
    if is_while:
        scene.allocations.append(f"{index.text} = T.alloc_var('int32')")
        scene.emit(f"{index.text} = 0")

    def turn(text: str) -> str:
        """The while loop counts before it computes."""
        return re.sub(rf"\b{index.text}\b", f"({index.text} - 1)", text) if is_while else text

    head = f"while {index.text} < {count}:" if is_while else f"for {index.text} in {rng.choice(('range', 'T.serial', 'T.unroll'))}({count}):"
    with scene.block(head):
        if is_while:
            scene.emit(f"{index.text} += 1")
            term = Term(turn(term.text), term.bound)
        if rng.random() < 0.4:
            with scene.block(f"if {turn(inner.condition(0).text)}:"):
                scene.emit(rng.choice(("break", "continue")))
        scene.emit(f"{total} += {term.text}" if rng.random() < 0.6 else f"{total} = {total} + {term.text}")
    return Term(total, bound)


def update(scene: Scene, accumulator: Tile) -> bool:
    """acc[i, j] = acc[i, j] + something, or the maximum with it."""
    rng = scene.rng
    with parallel_loop(scene, accumulator.shape) as own:
        expressions = Expressions(rng, Leaves(scene, own, without=accumulator), own + scene.indices)
        at = f"{accumulator.name}[{', '.join(i.text for i in own)}]"
        term = expressions.of_dtype(accumulator.dtype, 2)
        value, old = bounds.convert(term.bound, accumulator.dtype), accumulator.readable_bound
        assert value is not None
        is_same = promote(term.dtype, accumulator.dtype) == accumulator.dtype and accumulator.dtype.bits >= 32
        total = bounds.accumulate(accumulator.dtype, value, scene.turns, old) if is_same else None
        if total is not None and rng.random() < 0.7:
            scene.emit(f"{at} += {term.text}" if rng.random() < 0.5 else f"{at} = {at} + {term.text}")
            accumulator.bound = total
        else:
            scene.emit(f"{at} = T.max({at}, T.cast({term.text}, '{accumulator.dtype}'))" if "[" in term.text else f"{at} = {at}")
            accumulator.bound = bounds.join(old, value)
    return True


@dataclass(frozen=True)
class _Header:
    """A serial loop: its text, the indices it gives, and how often it turns."""

    text: str
    indices: tuple[Index, ...]
    turns: int


def _header(scene: Scene) -> _Header:
    rng, name = scene.rng, scene.name("k")
    count = rng.choice((0, 1, 1, 2, 2, 3, 4, 5) if scene.turns == 1 else (1, 2, 3))
    draw = rng.random()
    if scene.scalars and rng.random() < 0.3:
        scalar = rng.choice(scene.scalars)
        kind = rng.choice((f"T.serial({scalar.text})", f"range({scalar.text})", f"T.Pipelined({scalar.text}, num_stages={rng.randrange(4)})"))
        return _Header(f"for {name} in {kind}:", (Index(name, max(scalar.value, 1)),), scalar.value)
    if draw < 0.4:
        stages = rng.choice((0, 1, 2, 3, 4))
        return _Header(f"for {name} in T.Pipelined({count}, num_stages={stages}):", (Index(name, max(count, 1)),), count)
    if draw < 0.5 and count:
        step = rng.choice((2, 3, -1, -2))
        first, stop = (1, 1 + count * step) if step > 0 else (count * -step, 0)
        turns = len(range(first, stop, step))
        return _Header(f"for {name} in {rng.choice(('T.serial', 'range'))}({first}, {stop}, {step}):", (Index(name, max(first, stop) + 1),), turns)
    if draw < 0.6:
        second = scene.name("k")
        return _Header(f"for {name}, {second} in T.grid({count}, 2):", (Index(name, max(count, 1)), Index(second, 2)), 2 * count)
    return _Header(f"for {name} in {rng.choice(('range', 'T.serial', 'T.unroll'))}({count}):", (Index(name, max(count, 1)),), count)


def serial_loop(scene: Scene) -> bool:
    """A loop around other statements: tiles written inside are fresh in every turn, accumulators carry over."""
    rng = scene.rng
    if scene.depth >= 2:
        return False
    header = _header(scene)
    candidates = [t for t in scene.targets() if t.dtype in (dtypes.float32, dtypes.int32, dtypes.float64)]
    if candidates and rng.random() < 0.3:
        accumulators = [rng.choice(candidates)]
    else:
        accumulators = [scene.tile(scene.small_shape(), rng.choice((dtypes.float32, dtypes.float32, dtypes.int32)), "fragment")]
        scene.emit(f"T.clear({accumulators[0].name})")
        scene.write(accumulators[0], Bound(accumulators[0].dtype, 0.0), is_whole=True)
    before = scene.writable, scene.turns, list(scene.indices)
    scene.writable, scene.turns, scene.depth = set(), scene.turns * max(header.turns, 1), scene.depth + 1
    scene.indices += header.indices
    scene.hidden.update(t.name for t in accumulators)
    first = len(scene.tiles)
    with scene.block(header.text):
        for _ in range(rng.randrange(1, 4)):
            scene.statement()
        for accumulator in accumulators:
            rng.choice((update, gemm, gemm, reduce))(scene, accumulator) or update(scene, accumulator)
    if header.turns == 0:
        for tile in scene.tiles[first:]:
            tile.bound = None
    scene.writable, scene.turns, scene.indices = before
    if scene.writable is not None:
        scene.writable.update(t.name for t in scene.tiles[first:])
    scene.depth -= 1
    scene.hidden.difference_update(t.name for t in accumulators)
    return True


def branch(scene: Scene) -> bool:
    """`if` on values that are equal for the whole block, around statements that overwrite tiles which hold something already."""
    rng = scene.rng
    targets = scene.targets()
    if scene.depth >= 2 or not targets or not scene.indices:
        return False
    condition = Expressions(rng, lambda: rng.choice(scene.indices).term, scene.indices).condition(1)
    before, known = scene.writable, {t.name: t.readable_bound for t in targets}
    first = len(scene.tiles)
    scene.writable, scene.depth = set(known), scene.depth + 1
    sides = [f"if {condition.text}:"] + ["else:"] * (rng.random() < 0.4)
    after: list[dict[str, Bound]] = []
    for head in sides:
        for tile in targets:
            tile.bound = known[tile.name]
        with scene.block(head):
            for _ in range(rng.randrange(1, 3)):
                scene.statement()
        after.append({t.name: t.readable_bound for t in targets})
        for tile in scene.tiles[first:]:
            tile.bound = None
    for tile in targets:
        bound = known[tile.name]
        for side in after:
            bound = bounds.join(bound, side[tile.name])
        tile.bound = bound
    scene.writable, scene.depth = before, scene.depth - 1
    return True
