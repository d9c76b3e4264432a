"""Random use of vectors of a few lanes, of products of four bytes, and of tensors whose elements are vectors or 4 bits wide (floor 9)."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.testing import bounds
from tilewright.testing.bounds import Bound
from tilewright.testing.expressions import Index
from tilewright.testing.loop_statements import parallel_loop
from tilewright.testing.scene import Scene, Size, Tensor, Tile

VECTOR_DTYPES = (
    *(("float32", 4), ("float32", 2), ("float32", 8), ("float16", 2), ("float16", 4), ("bfloat16", 2)),
    *(("int32", 4), ("int8", 4), ("int8", 8), ("uint8", 4)),
)


@dataclass(frozen=True)
class _Vector:
    """An expression of vectors: its text, and the bound of every lane."""

    text: str
    bound: Bound


def vector_tile(scene: Scene) -> bool:
    """A tile of vectors computed from vectors of every origin, then taken apart again."""
    rng = scene.rng
    kind, lanes = rng.choice([(str(v.dtype.scalar), v.dtype.lanes) for v in scene.vectors] * 2 + list(VECTOR_DTYPES))
    dtype = dtypes.as_dtype(kind)
    count = rng.choice(scene.sizes(33))
    name, scope = scene.name("w"), rng.choice(("shared", "fragment"))
    scene.allocations.append(f"{name} = T.alloc_{scope}(({count},), '{kind}x{lanes}')")
    with parallel_loop(scene, (count,)) as own:
        value = _operation(scene, own[0], dtype, lanes)
        scene.emit(f"{name}[{own[0].text}] = {value.text}")
    if rng.random() < 0.4:
        with parallel_loop(scene, (count,)) as own:
            at = f"{name}[{own[0].text}]"
            order = [rng.randrange(lanes) for _ in range(lanes)]
            scene.emit(f"{at} = {rng.choice((f'T.Shuffle([{at}], {order})', f'T.Select({at} > 0, {at}, 0)'))}")
    _take_apart(scene, name, count, lanes, value.bound)
    return True


def _take_apart(scene: Scene, name: str, count: int, lanes: int, bound: Bound) -> None:
    """The lanes of a tile of vectors as a tile of their dtype."""
    rng, dtype = scene.rng, bound.dtype
    draw = rng.random()
    if draw < 0.3:
        chosen = [rng.randrange(lanes) for _ in range(rng.choice((1, 2)))]
        total = bounds.accumulate(dtype, bound, len(chosen))
        if total is None or not bound.dtype.is_signed or dtype.bits < 32:
            chosen, total = chosen[:1], bound
        target = scene.tile((count,), dtype)
        with parallel_loop(scene, (count,)) as own:
            scene.emit(f"{target.name}[{own[0].text}] = {' + '.join(f'T.extract_lane({name}[{own[0].text}], {k})' for k in chosen)}")
        scene.write(target, total, is_whole=True)
        return
    target = scene.tile((count, lanes) if draw < 0.65 else (count * lanes,), dtype)
    with parallel_loop(scene, (count,)) as own:
        element = f"{name}[{rng.choice((own[0].text, f'{count - 1} - {own[0].text}'))}]"
        place = f"{own[0].text}, T.Ramp(0, 1, {lanes})" if draw < 0.65 else f"T.Ramp({own[0].text} * {lanes}, 1, {lanes})"
        scene.emit(f"{target.name}[{place}] = {element}")
    scene.write(target, bound, is_whole=True)


def _operation(scene: Scene, index: Index, dtype: DType, lanes: int) -> _Vector:
    """One vector, or two combined, in `dtype`."""
    rng = scene.rng
    a = _vector(scene, index, dtype, lanes)
    if rng.random() < 0.3:
        return a
    b = _vector(scene, index, dtype, lanes)
    kind = rng.choice(("+", "-", "*", "max", "min", "select"))
    made = bounds.multiply(a.bound, b.bound) if kind == "*" else bounds.add(a.bound, b.bound) if kind in "+-" else bounds.extremum(a.bound, b.bound)
    made = made and bounds.convert(made, dtype)
    if made is None or (kind in "+-*" and not dtype.is_signed):
        return a
    if kind == "select":
        return _Vector(f"T.Select({a.text} < {b.text}, {a.text}, {b.text})" if a.bound.is_certain and b.bound.is_certain else a.text, made)
    text = f"T.{kind}({a.text}, {b.text})" if kind in ("max", "min") else f"({a.text} {kind} {b.text})"
    return _Vector(f"T.cast({text}, '{dtype}x{lanes}')", made)


def _vector(scene: Scene, index: Index, dtype: DType, lanes: int) -> _Vector:
    """A vector from a tensor of vectors, from neighbours in a tile or in a tensor, or of one number."""
    rng, own = scene.rng, f"{dtype}x{lanes}"
    tensors = [v for v in scene.vectors if v.dtype.lanes == lanes]
    if tensors and rng.random() < 0.6:
        tensor = rng.choice(tensors)
        assert tensor.bound is not None
        places = [rng.choice((index.text, f"{index.text} + 1", *(f"{i.text} + {index.text}" for i in scene.indices))) for _ in tensor.sizes]
        bound = bounds.convert(tensor.bound, dtype)
        if bound is not None:
            text = f"{tensor.name}[{', '.join(places)}]"
            return _Vector(text if tensor.dtype.scalar == dtype else f"T.cast({text}, '{own}')", bound)
    step = rng.choice((1, 1, 1, 2))
    tiles = [t for t in scene.readable() if t.shape[-1] > (lanes - 1) * step and not t.dtype.is_bool and bounds.convert(t.readable_bound, dtype) is not None]
    if tiles and rng.random() < 0.6:
        tile = rng.choice(tiles)
        room = tile.shape[-1] - (lanes - 1) * step
        places = [f"{index.text} % {n}" for n in tile.shape[:-1]]
        first = rng.choice((f"({index.text} * {lanes}) % {room}", f"{index.text} % {room}", str(rng.randrange(room))))
        return _Vector(f"T.cast({tile.name}[{', '.join([*places, f'T.Ramp({first}, {step}, {lanes})'])}], '{own}')", _converted(tile.readable_bound, dtype))
    inputs = [t for t in scene.inputs if t.bound is not None and not t.dtype.is_bool and bounds.convert(t.bound, dtype) is not None]
    if inputs and rng.random() < 0.6:
        tensor = rng.choice(inputs)
        assert tensor.bound is not None
        places = [rng.choice([index.text, *(i.text for i in scene.indices)]) for _ in tensor.sizes[:-1]]
        ramp = f"T.Ramp({rng.choice((index.text, f'{index.text} * {lanes}', '0'))}, {step}, {lanes})"
        return _Vector(f"T.cast({tensor.name}[{', '.join([*places, ramp])}], '{own}')", _converted(tensor.bound, dtype))
    value = rng.randrange(0, 4)
    return _Vector(f"T.Broadcast(T.cast({value} if {value} else {index.text} % 4, '{dtype}'), {lanes})", Bound(dtype, 3.0))


def _converted(bound: Bound, dtype: DType) -> Bound:
    made = bounds.convert(bound, dtype)
    assert made is not None
    return made


def byte_products(scene: Scene) -> bool:
    """T.dp4a over rows of bytes into an int32 of each."""
    rng = scene.rng
    rows, words = rng.choice(scene.sizes(33)), rng.choice((1, 1, 2, 3))
    a, b = (_bytes(scene, rows, 4 * words) for _ in range(2))
    target = scene.tile((rows,), dtypes.int32, rng.choice(("fragment", "shared")))
    scene.emit(f"T.clear({target.name})")
    with parallel_loop(scene, (rows,)) as own:
        i, k = own[0].text, scene.name("k")
        other = rng.choice((i, f"{rows - 1} - {i}", "0"))
        with scene.block(f"for {k} in {rng.choice(('T.serial', 'T.unroll', 'range'))}({words}):"):
            scene.emit(f"T.dp4a({a.name}[{i}, {k} * 4], {b.name}[{other}, {k} * 4], {target.name}[{i}])")
    scene.write(target, Bound(dtypes.int32, 4.0 * words * a.readable_bound.magnitude * b.readable_bound.magnitude), is_whole=True)
    return True


def _bytes(scene: Scene, rows: int, columns: int) -> Tile:
    """A shared tile of bytes: a readable one, or one of small numbers."""
    rng = scene.rng
    fitting = [t for t in scene.readable() if t.shape == (rows, columns) and t.dtype in (dtypes.int8, dtypes.uint8)]
    if fitting and rng.random() < 0.5:
        return rng.choice(fitting)
    tile = scene.tile((rows, columns), rng.choice((dtypes.int8, dtypes.int8, dtypes.uint8)), "shared")
    with parallel_loop(scene, (rows, columns)) as own:
        value = f"({own[0].text} * {rng.randrange(1, 6)} + {own[1].text}) % 11"
        scene.emit(f"{tile.name}[{own[0].text}, {own[1].text}] = {value}{' - 5' * tile.dtype.is_signed}")
    scene.write(tile, Bound(tile.dtype, 10.0), is_whole=True)
    return tile


def narrow_load(scene: Scene) -> bool:
    """A copy, or a loop, from a tensor of 4-bit elements into a tile of wider ones."""
    rng = scene.rng
    if not scene.narrow:
        return False
    tensor: Tensor = rng.choice(scene.narrow)
    rows, columns = (rng.choice(scene.sizes(33)) for _ in range(2))
    target = scene.tile((rows, columns), rng.choice((dtypes.float32, dtypes.float16, dtypes.int32, dtypes.int8)))
    starts = [_start(scene, size, n) for size, n in zip(tensor.sizes, target.shape, strict=True)]
    if rng.random() < 0.6:
        scene.emit(f"T.copy({tensor.name}[{', '.join(starts)}], {target.name})")
    else:
        with parallel_loop(scene, target.shape) as own:
            at = [i.text for i in own]
            places = ", ".join(f"{s} + {i}" for s, i in zip(starts, at, strict=True))
            scene.emit(f"{target.name}[{', '.join(at)}] = {tensor.name}[{places}]")
    scene.write(target, Bound(target.dtype, 15.0), is_whole=True)
    return True


def _start(scene: Scene, size: Size, extent: int) -> str:
    index = scene.rng.choice([None, *scene.indices])
    return f"{index.text} * {extent}" if index is not None else str(scene.rng.randrange(size.value))
