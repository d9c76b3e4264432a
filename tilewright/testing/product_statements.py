"""The loop that most programs are about: tiles of two tensors copied step by step along a depth, multiplied into an accumulator (floor 9)."""

from __future__ import annotations

from tilewright.testing import bounds
from tilewright.testing.bounds import Bound
from tilewright.testing.expressions import Index
from tilewright.testing.loop_statements import parallel_loop
from tilewright.testing.scene import Scene, Tensor, Tile
from tilewright.testing.tile_statements import GEMM_DTYPES, plain_index, product_bound


def product_loop(scene: Scene) -> bool:
    """C = op(A) @ op(B) for the block's rows and columns, in one of the usual spellings; sometimes with two products or a change of an operand inside."""
    rng = scene.rng
    if len(scene.axes) != 2 or scene.writable is not None:
        return False
    dtype, outs = rng.choice(GEMM_DTYPES)
    fitting = [t for t in scene.inputs if len(t.sizes) >= 2 and t.bound is not None and bounds.convert(t.bound, dtype) is not None]
    if not fitting:
        return False
    matching = _matching(scene, fitting)
    if matching and rng.random() < 0.7:
        left, right, *transposed = rng.choice(matching)
        dtype, outs = rng.choice([p for p in GEMM_DTYPES if p[0] == left.dtype] or [(dtype, outs)])
    else:
        left, right = (rng.choice([t for t in fitting if t.dtype == dtype] or fitting) for _ in range(2))
        transposed = [rng.random() < 0.4, rng.random() < 0.4]
    total_depth = left.sizes[-2 if transposed[0] else -1]
    divisors = [n for n in range(1, 65) if total_depth.value % n == 0]
    rows, columns, depth = scene.axes[0].block, scene.axes[1].block, rng.choice(scene.sizes(33) if rng.random() < 0.4 else divisors)
    turns = -(-total_depth.value // depth)
    out = rng.choice(outs)
    step = Index(scene.name("k"), max(turns, 1))
    a, b = (
        scene.tile(shape, dtype, rng.choice(("shared", "shared", "fragment")))
        for shape in ((depth, rows) if transposed[0] else (rows, depth), (columns, depth) if transposed[1] else (depth, columns))
    )
    c = scene.tile((rows, columns), out, "fragment")
    of_a, of_b = (bounds.convert(t.bound, dtype) for t in (left, right) if t.bound is not None)
    if of_a is None or of_b is None:
        return False
    scaled = bounds.multiply(of_a, Bound(of_a.dtype, 2.0)) if rng.random() < 0.25 else None
    of_a = scaled or of_a
    passes = rng.choice((1, 1, 1, 2))
    total = product_bound(of_a, of_b, out, depth * turns * passes, Bound(out, 0.0))
    if total is None:
        return False
    is_cleared_inside = rng.random() < 0.3 and passes == 1 and turns > 0
    if not is_cleared_inside:
        scene.emit(f"T.clear({c.name})")
    count = f"T.ceildiv({total_depth.text}, {depth})"
    stages = rng.choice(("", ", num_stages=1", ", num_stages=2", ", num_stages=3", ", num_stages=4"))
    kind = f"T.Pipelined({count}{stages})" if rng.random() < 0.75 else f"{rng.choice(('T.serial', 'range'))}({count})"
    with scene.block(f"for {step.text} in {kind}:"):
        along = f"{step.text} * {depth}"
        row, column = scene.axes[0].start, scene.axes[1].start
        copies = [
            _copy(scene, left, a, (along, row) if transposed[0] else (row, along)),
            _copy(scene, right, b, (column, along) if transposed[1] else (along, column)),
        ]
        rng.shuffle(copies)
        for line in copies:
            scene.emit(line)
        if scaled is not None:
            with parallel_loop(scene, a.shape) as own:
                at = f"{a.name}[{', '.join(i.text for i in own)}]"
                scene.emit(f"{at} = {at} * 2")
        options = [f"{n}=True" for n, t in zip(("transpose_A", "transpose_B"), transposed, strict=True) if t]
        options += [f"clear_accum={step.text} == 0"] * is_cleared_inside
        for _ in range(passes):
            scene.emit(f"T.gemm({', '.join([a.name, b.name, c.name, *options])})")
    scene.write(c, total, is_whole=True)
    if turns:
        scene.write(a, of_a, is_whole=True)
        scene.write(b, of_b, is_whole=True)
    return True


def _matching(scene: Scene, tensors: list[Tensor]) -> list[tuple[Tensor, Tensor, bool, bool]]:
    """Pairs whose sizes are those of a product over the whole domain, with their transposes."""
    rows, columns = (a.size for a in scene.axes)
    lefts = [(t, is_transposed) for t in tensors for is_transposed in (False, True) if t.sizes[-1 if is_transposed else -2] == rows]
    rights = [(t, is_transposed) for t in tensors for is_transposed in (False, True) if t.sizes[-2 if is_transposed else -1] == columns]
    return [(a, b, s, t) for a, s in lefts for b, t in rights if a.dtype == b.dtype and a.sizes[-2 if s else -1] == b.sizes[-1 if t else -2]]


def _copy(scene: Scene, tensor: Tensor, tile: Tile, starts: tuple[str, str]) -> str:
    """The copy of one operand, as a point or as slices."""
    leading = [plain_index(scene, size) for size in tensor.sizes[:-2]]
    windows = list(starts) if scene.rng.random() < 0.6 else [f"{s}:{s} + {n}" for s, n in zip(starts, tile.shape, strict=True)]
    return f"T.copy({tensor.name}[{', '.join(leading + windows)}], {tile.name})"
