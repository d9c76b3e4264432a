"""Random tile operations: copies, fills, products, reductions, scans, transposes, views (floor 9)."""

from __future__ import annotations

from dataclasses import replace

from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype
from tilewright.testing import bounds
from tilewright.testing.bounds import Bound
from tilewright.testing.scene import ACCUMULATOR_DTYPES, Scene, Size, Tensor, Tile

GEMM_DTYPES: tuple[tuple[DType, tuple[DType, ...]], ...] = (
    (dtypes.float16, (dtypes.float32, dtypes.float32, dtypes.float16)),
    (dtypes.bfloat16, (dtypes.float32,)),
    (dtypes.float32, (dtypes.float32,)),
    (dtypes.float64, (dtypes.float64,)),
    (dtypes.int8, (dtypes.int32,)),
    (as_dtype("float8_e4m3fn"), (dtypes.float32,)),
    (as_dtype("float8_e5m2"), (dtypes.float32,)),
)


def origin(scene: Scene, size: Size, extent: int) -> str:
    """Where a window of `extent` elements begins on an axis: along a block, a loop, a constant; often partly outside."""
    rng = scene.rng
    along = [a for a in scene.axes if a.size == size]
    draw = rng.random()
    if along and draw < 0.6:
        axis = rng.choice(along)
        shift = rng.choice(("", "", "", " + 1", " - 1", f" + {rng.randrange(1, 9)}", f" - {rng.randrange(1, 5)}"))
        return f"{axis.variable} * {extent if rng.random() < 0.5 else axis.block}{shift}"
    if scene.indices and draw < 0.75:
        index = rng.choice(scene.indices)
        return f"{index.text} * {rng.choice((extent, 1, 3))}" + rng.choice(("", "", " + 2", " - 1"))
    return "0" if draw < 0.85 else str(rng.randrange(0, max(1, size.value)))


def window(scene: Scene, tensor: Tensor, shape: tuple[int, ...]) -> str | None:
    """A region or point of a tensor that a tile of this shape is copied from; None where the tensor has too few axes."""
    rng, rank = scene.rng, len(tensor.sizes)
    if rank < len(shape):
        return None
    kept = sorted(rng.sample(range(rank), len(shape))) if rng.random() < 0.3 else list(range(rank - len(shape), rank))
    is_point = kept == list(range(rank - len(shape), rank)) and rng.random() < 0.5
    parts = []
    for axis, size in enumerate(tensor.sizes):
        if axis not in kept:
            parts.append(plain_index(scene, size))
            continue
        extent = shape[kept.index(axis)]
        start = origin(scene, size, extent)
        if is_point:
            parts.append(start)
        elif size.text == str(extent) and rng.random() < 0.5:
            parts.append(":")
        else:
            parts.append(f"{start}:{start} + {extent}" if not start.isdecimal() else f"{start}:{int(start) + extent}")
    return f"{tensor.name}[{', '.join(parts)}]"


def plain_index(scene: Scene, size: Size) -> str:
    """One index of an axis; now and then outside, where it reads zeros."""
    rng = scene.rng
    if scene.batch is not None and rng.random() < 0.7:
        return scene.batch.text
    if scene.indices and rng.random() < 0.5:
        return rng.choice(scene.indices).text
    return str(rng.randrange(size.value))


def load(scene: Scene) -> bool:
    """T.copy from a tensor into a tile, clipped at the tensor's edges."""
    tensor = scene.rng.choice(scene.inputs)
    shape = scene.small_shape()[-len(tensor.sizes) :]
    source = window(scene, tensor, shape)
    tile = scene.destination(shape, tensor.dtype if scene.rng.random() < 0.6 else None)
    assert tensor.bound is not None
    bound = bounds.convert(bounds.join(tensor.bound, replace(tensor.bound, magnitude=0.0)), tile.dtype)
    if source is None or bound is None:
        return False
    hint = scene.rng.choice(("", "", "", ", coalesced_width=4", ", disable_tma=True"))
    scene.emit(f"T.copy({source}, {tile.name}{hint})")
    scene.write(tile, bound, is_whole=True)
    return True


def copy(scene: Scene) -> bool:
    """T.copy between tiles: whole, a region into a region, or a tile into a slice of a larger one; often with a conversion."""
    rng, sources = scene.rng, scene.readable()
    if not sources:
        return False
    source = rng.choice(sources)
    draw = rng.random()
    if draw < 0.5:
        target = scene.destination(source.shape)
        bound = bounds.convert(source.readable_bound, target.dtype)
        if bound is None or target is source:
            return False
        scene.emit(f"T.copy({source.name}, {target.name})")
        scene.write(target, bound, is_whole=True)
        return True
    targets = [t for t in scene.targets() if t is not source and len(t.shape) == len(source.shape)]
    if not targets:
        return False
    target = rng.choice(targets)
    bound = bounds.convert(source.readable_bound, target.dtype)
    if bound is None:
        return False
    extents = [rng.randrange(1, min(n, m) + 1) for n, m in zip(source.shape, target.shape, strict=True)]
    regions = []
    for tile in (source, target):
        starts = [rng.randrange(n - e + 1) for n, e in zip(tile.shape, extents, strict=True)]
        regions.append(f"{tile.name}[{', '.join(f'{s}:{s + e}' for s, e in zip(starts, extents, strict=True))}]")
    scene.emit(f"T.copy({regions[0]}, {regions[1]})")
    scene.write(target, bound, is_whole=False)
    return True


def fill(scene: Scene) -> bool:
    """T.fill and T.clear of a tile or of a region of one."""
    rng = scene.rng
    value = rng.choice((0, 0, 1, 2, 3, 0.5))
    targets = scene.targets()
    if targets and rng.random() < 0.5:
        tile = rng.choice(targets)
        parts = []
        for n in tile.shape:
            start = rng.randrange(n)
            stop = rng.randrange(start + 1, n + 1)
            parts.append(rng.choice((f"{start}:{stop}", ":", f"{start}:{stop}")))
        place, is_whole = f"{tile.name}[{', '.join(parts)}]", False
    else:
        tile = scene.destination(scene.small_shape())
        place, is_whole = tile.name, True
    if not tile.dtype.is_float:
        value = int(value)
    scene.emit(f"T.clear({place})" if value == 0 else f"T.fill({place}, {value})")
    scene.write(tile, Bound(tile.dtype, float(value), 0.0, 0.5), is_whole=is_whole)
    return True


def _operand(scene: Scene, shape: tuple[int, int], dtype: DType) -> Tile | None:
    """A readable tile of this shape and dtype: an old one, a converted one, or one loaded for the purpose."""
    rng = scene.rng
    fitting = [t for t in scene.readable() if t.shape == shape and t.dtype == dtype]
    if fitting and rng.random() < 0.6:
        return rng.choice(fitting)
    tensors = [t for t in scene.inputs if len(t.sizes) >= 2 and t.bound is not None and bounds.convert(t.bound, dtype) is not None]
    if not tensors:
        return rng.choice(fitting) if fitting else None
    tensor = rng.choice([t for t in tensors if t.dtype == dtype] or tensors)
    tile = scene.tile(shape, dtype, rng.choice(("shared", "shared", "fragment")))
    source = window(scene, tensor, shape)
    assert tensor.bound is not None
    bound = bounds.convert(tensor.bound, dtype)
    if source is None or bound is None:
        return None
    scene.emit(f"T.copy({source}, {tile.name})")
    tile.bound = bound
    return tile


def gemm(scene: Scene, accumulator: Tile | None = None) -> bool:
    """T.gemm in all transposes, dtypes and odd sizes; into a fresh tile, an old one, or the given accumulator."""
    rng = scene.rng
    small = scene.sizes(33)
    if accumulator is not None:
        pairs = [a for a, outs in GEMM_DTYPES if accumulator.dtype in outs]
        if not pairs or len(accumulator.shape) != 2:
            return False
        dtype, (rows, columns) = rng.choice(pairs), accumulator.shape
    else:
        dtype, outs = rng.choice(GEMM_DTYPES)
        rows, columns = (rng.choice(small), rng.choice(small)) if len(scene.axes) == 1 or rng.random() < 0.4 else (a.block for a in scene.axes)
    depth = rng.choice(small)
    transposed = rng.random() < 0.4, rng.random() < 0.4
    a = _operand(scene, (depth, rows) if transposed[0] else (rows, depth), dtype)
    b = _operand(scene, (columns, depth) if transposed[1] else (depth, columns), dtype)
    if a is None or b is None:
        return False
    target = accumulator or scene.destination((rows, columns), rng.choice(outs), "fragment")
    is_clearing = accumulator is None and (target.bound is None or rng.random() < 0.4)
    start = None if is_clearing or target.bound is None else target.bound
    total = product_bound(a.readable_bound, b.readable_bound, target.dtype, depth * (scene.turns if accumulator else 1), start)
    if total is None or target in (a, b):
        return False
    options = [f"{n}=True" for n, t in zip(("transpose_A", "transpose_B"), transposed, strict=True) if t]
    if is_clearing and target.bound is None and rng.random() < 0.5:
        scene.emit(f"T.clear({target.name})")
    elif is_clearing:
        options.append(rng.choice(("clear_accum=True", "clear_accum=1 < 2")))
    if rng.random() < 0.2:
        options.append("policy=T.GemmWarpPolicy." + rng.choice(("FullRow", "FullCol", "Square")))
    scene.emit(f"T.gemm({', '.join([a.name, b.name, target.name, *options])})")
    scene.write(target, total, is_whole=True)
    return True


def product_bound(a: Bound, b: Bound, dtype: DType, count: int, start: Bound | None) -> Bound | None:
    """A sum of `count` products added to `start`: products are formed in float32 at least, and fused with the sum or not. Into a float16 accumulator,
    tensor cores may round the sum after every product."""
    wide = a.dtype if a.dtype in (dtypes.float32, dtypes.float64) else dtypes.float32 if a.dtype.is_float else dtypes.int32
    product = bounds.multiply(bounds.with_dtype(a, wide), bounds.with_dtype(b, wide))
    made = product and bounds.accumulate(dtype, product, count, start)
    if made is None or dtype is not dtypes.float16 or bounds.holds_exactly(dtype, made.magnitude, made.grain):
        return made
    made = replace(made, error=made.error + count * bounds.unit_roundoff(dtype) * made.magnitude)
    return made if made.fits else None


def reduce(scene: Scene, accumulator: Tile | None = None) -> bool:
    """T.reduce_* along any axis, with and without `clear`, into either result shape."""
    rng, sources = scene.rng, scene.readable()
    if not sources:
        return False
    source = rng.choice(sources)
    axis = rng.randrange(len(source.shape))
    rest = tuple(n for a, n in enumerate(source.shape) if a != axis) or (1,)
    if rng.random() < 0.25:
        rest = tuple(1 if a == axis else n for a, n in enumerate(source.shape))
    if accumulator is not None and accumulator.shape != rest:
        return False
    target = accumulator or scene.destination(rest, source.dtype if rng.random() < 0.6 else rng.choice(ACCUMULATOR_DTYPES))
    if target is source:
        return False
    kinds = ["sum", "sum", "max", "max", "min", "absmax", "abssum"] if accumulator is None else ["sum", "max"]
    if target.dtype.is_integer and source.dtype.is_integer:
        kinds += ["bitand", "bitor", "bitxor"]
    kind = rng.choice(kinds)
    is_clearing = accumulator is None and (target.bound is None or kind == "abssum" or rng.random() < 0.5)
    old = None if is_clearing else target.bound
    bound = reduction_bound(kind, source.readable_bound, target, source.shape[axis] * (scene.turns if accumulator else 1), old)
    if bound is None:
        return False
    dim = axis if rng.random() < 0.5 else axis - len(source.shape)
    is_default = kind == "abssum" or (is_clearing and rng.random() < 0.7)
    scene.emit(f"T.reduce_{kind}({source.name}, {target.name}, dim={dim}{'' if is_default else f', clear={is_clearing}'})")
    scene.write(target, bound, is_whole=True)
    return True


def reduction_bound(kind: str, value: Bound, target: Tile, count: int, old: Bound | None) -> Bound | None:
    """What a reduction of `count` elements leaves in the target, combined with `old` if there is one."""
    converted = bounds.convert(value, target.dtype)
    if target.dtype.is_bool and ("sum" in kind or "abs" in kind):
        return None
    if converted is None or ("abs" in kind and converted.magnitude >= bounds.full_range(target.dtype)):
        return None
    if "sum" in kind:
        return bounds.accumulate(target.dtype, converted, count, old)
    if "bit" in kind:
        return Bound(target.dtype, bounds.full_range(target.dtype))
    return converted if old is None else bounds.join(converted, old)


def scan(scene: Scene) -> bool:
    """T.cumsum and T.cummax, in place or into another tile, in both directions."""
    rng = scene.rng
    is_in_place = rng.random() < 0.4
    sources = [t for t in (scene.targets() if is_in_place else scene.readable()) if not t.dtype.is_bool]
    if not sources:
        return False
    source = rng.choice(sources)
    target = source if is_in_place else scene.destination(source.shape, source.dtype)
    if target is source and not is_in_place:
        return False
    axis, name = rng.randrange(len(source.shape)), rng.choice(("cumsum", "cumsum", "cummax"))
    bound = source.readable_bound if name == "cummax" else bounds.accumulate(target.dtype, source.readable_bound, source.shape[axis])
    if bound is None:
        return False
    operands = source.name if is_in_place else f"{source.name}, {target.name}"
    scene.emit(f"T.{name}({operands}, dim={rng.choice((axis, axis - len(source.shape)))}, reverse={rng.random() < 0.4})")
    scene.write(target, bound, is_whole=True)
    return True


def transpose(scene: Scene) -> bool:
    """T.transpose of the last two axes."""
    sources = [t for t in scene.readable() if len(t.shape) >= 2 and t.scope == "shared"]
    if not sources:
        return False
    source = scene.rng.choice(sources)
    target = scene.tile((*source.shape[:-2], source.shape[-1], source.shape[-2]), source.dtype, "shared")
    scene.emit(f"T.transpose({source.name}, {target.name})")
    scene.write(target, source.readable_bound, is_whole=True)
    return True


def view(scene: Scene) -> bool:
    """T.reshape of a tile; what is read through the view is copied on."""
    rng = scene.rng
    sources = [t for t in scene.readable() if len(t.shape) <= 2]
    if not sources:
        return False
    source = rng.choice(sources)
    count = 1
    for n in source.shape:
        count *= n
    divisor = rng.choice([d for d in range(1, count + 1) if count % d == 0])
    shape = rng.choice(((count,), (divisor, count // divisor)))
    target, name = scene.tile(shape, source.dtype), scene.name("view")
    scene.emit(f"{name} = T.{rng.choice(('reshape', 'view'))}({source.name}, {list(shape)})")
    scene.emit(f"T.copy({name}, {target.name})")
    scene.write(target, source.readable_bound, is_whole=True)
    return True
