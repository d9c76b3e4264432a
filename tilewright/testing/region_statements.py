"""Random operations on parts of tiles: regions and aliases as operands of every tile operation (floor 9)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright import dtypes
from tilewright.testing import bounds
from tilewright.testing.bounds import Bound
from tilewright.testing.scene import Scene, Tile
from tilewright.testing.tile_statements import GEMM_DTYPES, product_bound, reduction_bound


@dataclass(frozen=True)
class Part:
    """A region of a tile: its text and the extents of its axes."""

    tile: Tile
    text: str
    shape: tuple[int, ...]


def part(scene: Scene, tile: Tile, shape: tuple[int, ...] | None = None) -> Part:
    """A random region of a tile, of a given shape if there is one; now and then under a name of its own."""
    rng = scene.rng
    extents = shape or tuple(n if rng.random() < 0.3 else rng.randrange(1, n + 1) for n in tile.shape)
    starts = [rng.randrange(n - e + 1) for n, e in zip(tile.shape, extents, strict=True)]
    indices = [i for i in scene.indices if i.extent > 1]
    windows = []
    for start, extent, n in zip(starts, extents, tile.shape, strict=True):
        moving = [i for i in indices if i.extent + extent <= n + 1]
        if moving and rng.random() < 0.3:
            index = rng.choice(moving)
            windows.append(f"{index.text}:{index.text} + {extent}")
        else:
            windows.append(":" if extent == n else f"{start}:{start + extent}")
    text = f"{tile.name}[{', '.join(windows)}]"
    if rng.random() < 0.25:
        name = scene.name("part")
        scene.emit(f"{name} = {text}")
        return Part(tile, name, extents)
    return Part(tile, text, extents)


def gemm_parts(scene: Scene) -> bool:
    """T.gemm of regions into a region or a tile."""
    rng = scene.rng
    matrices = [t for t in scene.readable() if len(t.shape) == 2]
    pairs = [(a, b, c) for a, outs in GEMM_DTYPES for c in outs for b in (a,)]
    rng.shuffle(pairs)
    for dtype, _, out in pairs:
        fitting = [t for t in matrices if t.dtype == dtype]
        if not fitting:
            continue
        left, right = rng.choice(fitting), rng.choice(fitting)
        transposed = rng.random() < 0.4, rng.random() < 0.4
        depth = rng.randrange(1, min(left.shape[0 if transposed[0] else 1], right.shape[1 if transposed[1] else 0]) + 1)
        rows = rng.randrange(1, left.shape[1 if transposed[0] else 0] + 1)
        columns = rng.randrange(1, right.shape[0 if transposed[1] else 1] + 1)
        total = product_bound(left.readable_bound, right.readable_bound, out, depth, None)
        if total is None:
            return False
        a = part(scene, left, (depth, rows) if transposed[0] else (rows, depth))
        b = part(scene, right, (columns, depth) if transposed[1] else (depth, columns))
        targets = [t for t in scene.targets() if t.dtype == out and len(t.shape) == 2 and t not in (left, right)]
        targets = [t for t in targets if t.shape[0] >= rows and t.shape[1] >= columns]
        if targets and rng.random() < 0.5:
            target = rng.choice(targets)
            c, is_whole = part(scene, target, (rows, columns)), False
        else:
            target = scene.tile((rows, columns), out, "fragment")
            c, is_whole = Part(target, target.name, target.shape), True
        options = [f"{n}=True" for n, t in zip(("transpose_A", "transpose_B"), transposed, strict=True) if t]
        scene.emit(f"T.gemm({', '.join([a.text, b.text, c.text, *options, 'clear_accum=True'])})")
        scene.write(target, total, is_whole=is_whole)
        return True
    return False


def reduce_part(scene: Scene) -> bool:
    """T.reduce_* of a region."""
    rng, sources = scene.rng, scene.readable()
    if not sources:
        return False
    source = rng.choice(sources)
    given = part(scene, source)
    axis = rng.randrange(len(given.shape))
    rest = tuple(n for a, n in enumerate(given.shape) if a != axis) or (1,)
    target = scene.destination(rest, source.dtype if rng.random() < 0.7 else None)
    kind = rng.choice(("sum", "max", "min", "absmax"))
    bound = reduction_bound(kind, source.readable_bound, target, given.shape[axis], None)
    if bound is None or target is source:
        return False
    scene.emit(f"T.reduce_{kind}({given.text}, {target.name}, dim={axis})")
    scene.write(target, bound, is_whole=True)
    return True


def scan_part(scene: Scene) -> bool:
    """T.cumsum or T.cummax of a region in place."""
    rng, sources = scene.rng, [t for t in scene.targets() if not t.dtype.is_bool]
    if not sources:
        return False
    source = rng.choice(sources)
    axis, name = rng.randrange(len(source.shape)), rng.choice(("cumsum", "cummax"))
    bound = source.readable_bound if name == "cummax" else bounds.accumulate(source.dtype, source.readable_bound, source.shape[axis])
    if bound is None:
        return False
    given = part(scene, source)
    scene.emit(f"T.{name}({given.text}, dim={axis}, reverse={rng.random() < 0.5})")
    scene.write(source, bound, is_whole=False)
    return True


def copy_part(scene: Scene) -> bool:
    """T.copy of a region into a whole tile, and T.fill of a region under a name."""
    rng, sources = scene.rng, scene.readable()
    if not sources:
        return False
    source = rng.choice(sources)
    targets = [t for t in scene.targets() if t is source]
    if targets and rng.random() < 0.3:
        value = rng.choice((0, 1, 2))
        scene.emit(f"T.fill({part(scene, source).text}, {value})")
        scene.write(source, Bound(source.dtype, float(value)), is_whole=False)
        return True
    given = part(scene, source)
    target = scene.tile(given.shape)
    bound = bounds.convert(source.readable_bound, target.dtype)
    if bound is None:
        return False
    scene.emit(f"T.copy({given.text}, {target.name})")
    scene.write(target, bound, is_whole=True)
    return True


def view_bits(scene: Scene) -> bool:
    """T.view of a tile as integers of equal or narrower width, copied on."""
    rng = scene.rng
    sources = [t for t in scene.readable() if t.readable_bound.is_certain and t.dtype.bits in (16, 32) and not t.dtype.is_bool]
    if not sources:
        return False
    source = rng.choice(sources)
    wanted = dtypes.int32 if source.dtype.bits == 32 else dtypes.int16
    shape = source.shape
    if rng.random() < 0.4:
        wanted, shape = dtypes.uint8, (*source.shape[:-1], source.shape[-1] * source.dtype.bits // 8)
    name = scene.name("bits")
    target = scene.tile(shape, rng.choice((wanted, dtypes.int64)))
    scene.emit(f"{name} = T.view({source.name}, {list(shape)}, dtype='{wanted}')")
    scene.emit(f"T.copy({name}, {target.name})")
    scene.write(target, replace(Bound(wanted, bounds.full_range(wanted)), dtype=target.dtype), is_whole=True)
    return True
