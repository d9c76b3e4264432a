"""Random use of the rarer constructs: atomics and reducers, bool and 4-bit tiles, per-iteration arrays, votes, while loops (floor 9)."""

from __future__ import annotations

from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype
from tilewright.testing import bounds
from tilewright.testing.bounds import Bound
from tilewright.testing.expressions import Expressions, Index, Term, integer
from tilewright.testing.loop_statements import Leaves, parallel_loop
from tilewright.testing.scene import Scene, Tile

_COUNTERS = (dtypes.int32, dtypes.float32, dtypes.int32, dtypes.uint32)
NIBBLES = (as_dtype("int4"), as_dtype("uint4"), as_dtype("float4_e2m1fn"))


def _expressions(scene: Scene, own: list[Index], without: Tile | None = None) -> Expressions:
    return Expressions(scene.rng, Leaves(scene, own, without=without), own + scene.indices)


def _certain_value(scene: Scene, own: list[Index], dtype: DType, count: int, start: Bound) -> tuple[Term, Bound] | None:
    """A value of which `count` can be added in any order with one result."""
    for _ in range(4):
        term = _expressions(scene, own).of_dtype(dtype, 1)
        value = bounds.convert(term.bound, dtype)
        total = value and bounds.accumulate(dtype, value, count, start)
        if total is not None and total.is_certain and (not dtype.is_float or bounds.holds_exactly(dtype, total.magnitude, total.grain)):
            return term, total
    return None


def shared_atomics(scene: Scene) -> bool:
    """A shared tile that the iterations of a loop add into, many into one element."""
    rng = scene.rng
    dtype, size = rng.choice(_COUNTERS), rng.choice((1, 3, 8, 16))
    tile = scene.tile((size,), dtype, "shared")
    scene.emit(f"T.clear({tile.name})")
    shape = scene.small_shape()
    count = 1
    for n in shape:
        count *= n
    with parallel_loop(scene, shape) as own:
        found = _certain_value(scene, own, dtype, count, Bound(dtype, 0.0))
        term, total = found or (integer(1), Bound(dtype, float(count)))
        kind = rng.choice(("add", "add", "max", "min"))
        index = rng.choice(own)
        place = index.text if index.extent <= size else f"{index.text} % {size}"
        line = f"T.atomic_{kind}({tile.name}[{place}], {term.text})"
        if rng.random() < 0.4:
            with scene.block(f"if {_expressions(scene, own).condition(0).text}:"):
                scene.emit(line)
        else:
            scene.emit(line)
    scene.write(tile, total, is_whole=True)
    return True


def reducer(scene: Scene) -> bool:
    """A deferred reduction: T.alloc_reducer, updates from a loop, T.finalize_reducer."""
    rng = scene.rng
    if scene.writable is not None:
        return False
    dtype, size, kind = rng.choice((dtypes.float32, dtypes.int32)), rng.choice((1, 4, 7, 16)), rng.choice(("sum", "sum", "max", "min"))
    name = scene.name("r")
    scene.allocations.append(f"{name} = T.alloc_reducer(({size},), '{dtype}', '{kind}')")
    target = scene.tile((size,), dtype, "fragment")
    scene.emit(f"T.reducer_init({name})")
    shape = scene.small_shape()
    count = 1
    for n in shape:
        count *= n
    if kind != "sum" and shape[0] < size:
        scene.emit(f"T.reducer_init({name}, 0)")
    with parallel_loop(scene, shape) as own:
        found = _certain_value(scene, own, dtype, count, Bound(dtype, 0.0))
        term, total = found or (integer(1), Bound(dtype, float(count)))
        index = own[0]
        scene.emit(f"T.reducer_update({name}[{index.text if index.extent <= size else f'{index.text} % {size}'}], {term.text})")
    scene.emit(f"T.finalize_reducer({name}, {target.name})")
    scene.write(target, total, is_whole=True)
    return True


def bool_tile(scene: Scene) -> bool:
    """A tile of truth values, then a tile chosen by it."""
    rng = scene.rng
    shape = scene.small_shape()
    mask = scene.tile(shape, dtypes.bool_, "shared")
    with parallel_loop(scene, shape) as own:
        expressions = _expressions(scene, own)
        scene.emit(f"{mask.name}[{', '.join(i.text for i in own)}] = {expressions.condition(1).text}")
    target = scene.tile(shape)
    with parallel_loop(scene, shape) as own:
        at = ", ".join(i.text for i in own)
        expressions = _expressions(scene, own)
        a, b = expressions.of_dtype(target.dtype, 1), expressions.of_dtype(target.dtype, 1)
        x, y = bounds.convert(a.bound, target.dtype), bounds.convert(b.bound, target.dtype)
        joined = bounds.extremum(a.bound, b.bound)
        assert x is not None and y is not None
        if joined is not None and bounds.convert(joined, target.dtype) is not None and rng.random() < 0.5:
            x = bounds.convert(joined, target.dtype) or x
            scene.emit(f"{target.name}[{at}] = T.if_then_else({rng.choice(('', 'not '))}{mask.name}[{at}], {a.text}, {b.text})")
        else:
            with scene.block(f"if {mask.name}[{at}]:"):
                scene.emit(f"{target.name}[{at}] = {a.text}")
            with scene.block("else:"):
                scene.emit(f"{target.name}[{at}] = {b.text}")
    scene.write(target, bounds.join(x, y), is_whole=True)
    return True


def votes(scene: Scene) -> bool:
    """T.any_of and T.all_of, used as a value in a loop."""
    rng = scene.rng
    sources = [t for t in scene.readable() if t.readable_bound.is_certain]
    if not sources:
        return False
    source, name = rng.choice(sources), scene.name("vote")
    scene.emit(f"{name} = T.{rng.choice(('any_of', 'all_of'))}({source.name})")
    target = scene.destination(scene.small_shape())
    if target is source:
        return True
    with parallel_loop(scene, target.shape) as own:
        term = _expressions(scene, own, target).of_dtype(target.dtype, 1)
        value = bounds.extremum(term.bound, integer(2).bound)
        bound = value and bounds.convert(value, target.dtype)
        is_chosen = bound is not None
        scene.emit(f"{target.name}[{', '.join(i.text for i in own)}] = " + (f"T.if_then_else({name}, {term.text}, 2)" if is_chosen else term.text))
    scene.write(target, bound or bounds.convert(term.bound, target.dtype) or Bound(target.dtype, bounds.full_range(target.dtype)), is_whole=True)
    return True


def local_array(scene: Scene) -> bool:
    """Every iteration fills a T.alloc_local array, exchanges two of its elements and combines them."""
    rng = scene.rng
    dtype, count = rng.choice((dtypes.float32, dtypes.int32)), rng.choice((1, 2, 3, 4))
    name = scene.name("p")
    scene.allocations.append(f"{name} = T.alloc_local(({count},), '{dtype}')")
    target = scene.destination(scene.small_shape(), dtype)
    with parallel_loop(scene, target.shape) as own:
        index = Index(scene.name("k"), count)
        inner = Expressions(rng, Leaves(scene, [*own, index], without=target), [*own, index])
        term = inner.of_dtype(dtype, 1)
        value = bounds.convert(term.bound, dtype)
        total = value and bounds.accumulate(dtype, value, count)
        if total is None:
            term, total = index.term, Bound(dtype, float(count * count))
        with scene.block(f"for {index.text} in {rng.choice(('T.serial', 'T.unroll', 'T.vectorized', 'range'))}({count}):"):
            scene.emit(f"{name}[{index.text}] = {term.text}")
        if count > 1:
            scene.emit(f"{name}[0], {name}[{count - 1}] = {name}[{count - 1}], {name}[0]")
        scene.emit(f"{target.name}[{', '.join(i.text for i in own)}] = {' + '.join(f'{name}[{k}]' for k in range(count))}")
    scene.write(target, total, is_whole=True)
    return True


def nibble_tile(scene: Scene) -> bool:
    """A tile of 4-bit elements written from small values and read back."""
    rng = scene.rng
    shape = scene.small_shape()
    dtype = rng.choice(NIBBLES)
    tile, target = scene.tile(shape, dtype, "shared"), scene.tile(shape, rng.choice((dtypes.float32, dtypes.int32, dtypes.int8, dtypes.float16)))
    with parallel_loop(scene, shape) as own:
        low, high = (0, 15) if str(dtype) == "uint4" else (-8, 7) if str(dtype) == "int4" else (-3, 3)
        value = f"({' + '.join(i.text for i in own)}) % {high - low + 1}" + (f" + {low}" if low >= 0 else f" - {-low}")
        scene.emit(f"{tile.name}[{', '.join(i.text for i in own)}] = {value}")
    if rng.random() < 0.5:
        scene.emit(f"T.copy({tile.name}, {target.name})")
    else:
        with parallel_loop(scene, shape) as own:
            at = ", ".join(i.text for i in own)
            mirrored = ", ".join(f"{n - 1} - {i.text}" for i, n in zip(own, shape, strict=True))
            scene.emit(f"{target.name}[{at}] = {tile.name}[{rng.choice((at, mirrored))}]")
    scene.write(target, Bound(target.dtype, 15.0), is_whole=True)
    if dtype.is_integer:
        scene.write(tile, Bound(dtype, 15.0 if not dtype.is_signed else 8.0), is_whole=True)
    return True


def macro_call(scene: Scene) -> bool:
    """A macro of its own that changes a tile in place."""
    rng = scene.rng
    targets = [t for t in scene.targets() if not t.dtype.is_bool and not t.dtype.is_packed]
    if not targets:
        return False
    target, amount, name = rng.choice(targets), rng.randrange(1, 4), scene.name("change")
    bound = bounds.add(target.readable_bound, integer(amount).bound)
    bound = bound and bounds.convert(bound, target.dtype)
    if bound is None:
        return False
    indices = ", ".join("ijkl"[: len(target.shape)])
    scene.macros += [
        "@T.macro",
        f"def {name}(tile, amount):",
        f"    for {indices} in T.Parallel({', '.join(map(str, target.shape))}):",
        f"        tile[{indices}] = tile[{indices}] + amount",
        "",
        "",
    ]
    scene.emit(f"{name}({target.name}, {amount})")
    scene.write(target, bound, is_whole=True)
    return True


def counted_while(scene: Scene) -> bool:
    """A `while` for the whole block around a copy or a fill, left early now and then."""
    rng = scene.rng
    if scene.depth >= 2:
        return False
    name, turns = scene.variable(dtypes.int32), rng.choice((1, 2, 3))
    tile = scene.destination(scene.small_shape())
    value = rng.choice((0, 1, 2))
    scene.emit(f"{name} = 0")
    scene.emit(f"T.fill({tile.name}, {value})")
    with scene.block(f"while {name} < {turns}:"):
        scene.emit(f"{name} = {name} + 1" if rng.random() < 0.5 else f"{name} += 1")
        if rng.random() < 0.4:
            with scene.block(f"if {name} == {rng.randrange(1, 4)}:"):
                scene.emit(rng.choice(("break", "continue")))
        with parallel_loop(scene, tile.shape) as own:
            at = f"{tile.name}[{', '.join(i.text for i in own)}]"
            scene.emit(f"{at} = {at} + {name}")
    scene.write(tile, Bound(tile.dtype, value + 6.0) if not tile.dtype.is_float or tile.dtype.bits > 8 else Bound(tile.dtype, value + 8.0), is_whole=True)
    return True
