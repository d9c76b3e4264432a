"""Random valid tile programs as Python source, the same for the same seed (floor 9).

A program has no undefined behaviour: tiles are written before they are read, indices into tiles stay inside, iterations and blocks do not race,
nothing overflows a float. What may be inexact is bounded, and the bound is the tolerance of the comparison.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype
from tilewright.testing import (
    bounds,
    load_statements,
    loop_statements,
    other_statements,
    product_statements,
    region_statements,
    thread_statements,
    tile_statements,
    vector_statements,
)
from tilewright.testing.bounds import Bound
from tilewright.testing.expressions import Expressions, Index, Term
from tilewright.testing.loop_statements import Leaves, parallel_loop
from tilewright.testing.scene import LARGE_SIZES, SIZES, TILE_DTYPES, Axis, Scene, Size, Tensor, Tile

_INPUT_LIMITS = {"float8_e4m3fn": 2, "float8_e5m2": 2, "bfloat16": 3, "float16": 3}
_MOST_BLOCKS = 24
_MOST_LINES = 60
STATEMENTS = (
    (tile_statements.load, 5),
    (tile_statements.copy, 3),
    (tile_statements.fill, 2),
    (tile_statements.gemm, 3),
    (tile_statements.reduce, 3),
    (tile_statements.scan, 2),
    (tile_statements.transpose, 1),
    (tile_statements.view, 1),
    (loop_statements.elementwise, 7),
    (loop_statements.serial_loop, 3),
    (loop_statements.branch, 2),
    (product_statements.product_loop, 1),
    (region_statements.gemm_parts, 2),
    (region_statements.reduce_part, 1),
    (region_statements.scan_part, 1),
    (region_statements.copy_part, 1),
    (region_statements.view_bits, 1),
    (other_statements.shared_atomics, 1),
    (other_statements.reducer, 1),
    (other_statements.bool_tile, 1),
    (other_statements.votes, 1),
    (other_statements.local_array, 1),
    (other_statements.nibble_tile, 1),
    (other_statements.counted_while, 1),
    (other_statements.macro_call, 1),
    (load_statements.async_copies, 1),
    (load_statements.patches, 2),
    (vector_statements.vector_tile, 2),
    (vector_statements.byte_products, 1),
    (vector_statements.narrow_load, 2),
)
THREAD_STATEMENTS = ((thread_statements.thread_code, 2),)
_ATOMIC_DTYPES = (dtypes.int32, dtypes.float32, dtypes.uint32, dtypes.int64)


@dataclass(frozen=True)
class GeneratedProgram:
    """One program: `source` is a module that defines `kernel`, and beside it what a run needs (see `header`)."""

    seed: int
    number: int
    source: str


def generate(seed: int, number: int, length: int = 8, *, has_threads: bool = True) -> GeneratedProgram:
    """Program `number` of a seed, with about `length` statements per launch; `has_threads` allows code for single threads among them."""
    made = _Program(random.Random(f"{seed}/{number}"), length, has_threads)
    title = f'"""Generated: seed {seed}, program {number}."""\n'
    return GeneratedProgram(seed, number, title + made.source())


class _Program:
    """Everything about one program while it is made."""

    def __init__(self, rng: random.Random, length: int, has_threads: bool) -> None:
        self.rng, self.length, self.has_threads = rng, length, has_threads
        self.scale = rng.choice((1,) * 9 + (4,))
        self.symbols: list[Size] = []
        self.inputs: list[Tensor] = []
        self.vectors: list[Tensor] = []
        self.narrow: list[Tensor] = []
        self.limits: dict[str, tuple[int, int]] = {}
        self.outputs: list[Tensor] = []
        self.scalars = [Size("count", rng.choice((0, 1, 2, 3, 5)))] if rng.random() < 0.25 else []
        self.body: list[str] = []
        self.macros: list[str] = []
        self.workspaces: list[Tensor] = []
        self.strides: dict[str, str] = {}
        self.counter = 0
        self.domain = self._domain()
        self._add_inputs()
        self._add_rare_inputs()
        if len(self.domain) == 2 and rng.random() < 0.35:
            self._add_factors()
        self.remaining = rng.choice((1, 1, 1, 2, 3))
        while self.remaining:
            self.remaining -= 1
            self._launch()

    # -- tensors
    def _size(self, limit: int) -> Size:
        value = self.rng.choice([n for n in (SIZES if self.scale == 1 else LARGE_SIZES) if n <= limit * self.scale])
        if self.rng.random() < 0.2:
            symbol = Size(f"n{len(self.symbols)}", value)
            self.symbols.append(symbol)
            return symbol
        return Size(str(value), value)

    def _domain(self) -> tuple[Size, ...]:
        return tuple(self._size(64) for _ in range(self.rng.choice((1, 2, 2, 2))))

    def _add_inputs(self) -> None:
        shapes = [self.domain]
        for _ in range(self.rng.randrange(1, 4)):
            rank = self.rng.choice((1, 2, 2, 2, 3))
            sizes = [self.rng.choice(self.domain) if self.rng.random() < 0.5 else self._size(48) for _ in range(rank)]
            if rank == 3:
                sizes[0] = Size(str(depth := self.rng.randrange(1, 5)), depth)
            shapes.append(tuple(sizes))
        for shape in shapes:
            tensor = self._tensor("ABCDE"[len(self.inputs)], shape, self.rng.choice(TILE_DTYPES))
            self.inputs.append(tensor)
            if self.rng.random() < 0.15:
                self.strides[tensor.name] = self._strides(tensor)

    def _strides(self, tensor: Tensor) -> str:
        """Steps between the elements of a tensor, in elements: with gaps, with the first axis innermost, with a symbol for one of them."""
        rng = self.rng
        axes = list(range(len(tensor.sizes)))
        if rng.random() < 0.25:
            rng.shuffle(axes)
        step, steps = rng.choice((1, 1, 1, 2)), dict[int, int]()
        for axis in reversed(axes):
            steps[axis] = step
            step = step * tensor.sizes[axis].value + rng.choice((0, 0, 1, 3, 8))
        texts = [str(steps[axis]) for axis in range(len(axes))]
        if rng.random() < 0.5:
            symbol = Size(f"step_{tensor.name}", steps[0])
            self.symbols.append(symbol)
            texts[0] = symbol.text
        return f"({', '.join(texts)}{',' * (len(texts) == 1)})"

    def _add_rare_inputs(self) -> None:
        """Now and then an image, a tensor of vectors, or one of 4-bit elements."""
        rng = self.rng
        if rng.random() < 0.12:
            sizes = tuple(Size(str(n), n) for n in (rng.randrange(1, 4), rng.randrange(1, 10), rng.randrange(1, 10), rng.randrange(1, 6)))
            self.inputs.append(self._tensor("I", sizes, rng.choice(TILE_DTYPES)))
        if rng.random() < 0.12:
            kind, lanes = rng.choice(vector_statements.VECTOR_DTYPES)
            scalar = self._tensor("V", tuple(self._size(33) for _ in range(rng.choice((1, 2)))), as_dtype(kind))
            self.vectors.append(replace(scalar, dtype=as_dtype(f"{kind}x{lanes}")))
        if rng.random() < 0.12:
            columns = 2 * rng.randrange(1, 20)
            dtype = rng.choice(other_statements.NIBBLES)
            self.narrow.append(self._tensor("N", (self._size(33), Size(str(columns), columns)), dtype))

    def _add_factors(self) -> None:
        """Two tensors whose product has the domain's shape, each possibly transposed."""
        (rows, columns), depth = self.domain, self._size(64)
        dtype = self.rng.choice((dtypes.float32, dtypes.float32, dtypes.float16, dtypes.bfloat16, dtypes.int8, dtypes.float64))
        for name, sizes in (("P", (rows, depth)), ("Q", (depth, columns))):
            self.inputs.append(self._tensor(name, sizes if self.rng.random() < 0.6 else sizes[::-1], dtype))

    def _tensor(self, name: str, sizes: tuple[Size, ...], dtype: DType) -> Tensor:
        limit = _INPUT_LIMITS.get(str(dtype), self.rng.choice((1, 3, 3, 7)))
        self.limits[name] = (-limit if dtype.is_signed else 0, limit)
        return Tensor(name, sizes, dtype, Bound(dtype, float(limit)))

    def _output(self, sizes: tuple[Size, ...], dtype: DType) -> Tensor:
        made = self._tensor(f"Y{len(self.outputs)}", sizes, dtype)
        self.outputs.append(made)
        return made

    def _result(self, sizes: tuple[Size, ...], dtype: DType) -> Tensor:
        """Where a launch writes all elements: an output, or a workspace for the launches after it."""
        if not self.remaining or self.rng.random() < 0.7:
            return self._output(sizes, dtype)
        self.workspaces.append(Tensor(f"W{len(self.workspaces)}", sizes, dtype, None))
        return self.workspaces[-1]

    # -- launches
    def _launch(self) -> None:
        """One launch: a domain cut into blocks, some statements, some of their tiles stored."""
        rng = self.rng
        is_product = len(self.domain) == 2 and rng.random() < (0.7 if self.inputs[-1].name == "Q" else 0.1)
        most_blocks = 4 * _MOST_BLOCKS if is_product else _MOST_BLOCKS
        variables = ["bx", "by"]
        is_even = is_product and rng.random() < 0.6
        axes = [Axis(size, self._block(size, is_even), variables[k]) for k, size in enumerate(reversed(self.domain))][::-1]
        batch = Index("bz", rng.choice((1, 2, 3))) if rng.random() < 0.25 else None
        while (batch.extent if batch else 1) * _product(a.count for a in axes) > most_blocks:
            largest = max(axes, key=lambda a: a.count)
            largest.block = min(
                n for n in range(largest.block + 1, 2 * largest.size.value + 1) if not is_even or largest.size.value % n == 0 or n > largest.size.value
            )
        names = [a.variable for a in reversed(axes)] + ([batch.text] if batch else [])
        grid = [f"T.ceildiv({a.size.text}, {a.block})" for a in reversed(axes)] + ([str(batch.extent)] if batch else [])
        indices = [Index(a.variable, a.count) for a in axes] + ([batch] if batch else [])
        readable = [t for t in (*self.inputs, *self.outputs, *self.workspaces) if t.bound is not None]
        threads = rng.choice((32, 64, 96, 128, 128, 256, rng.choice((1, 17, 40, 100, 160, 224))))
        columns = rng.choice([n for n in (1, 2, 4, 8, 16, 32, 64) if threads % n == 0]) if rng.random() < 0.15 else threads
        statements = (*STATEMENTS, *THREAD_STATEMENTS) if self.has_threads else STATEMENTS
        scene = Scene(rng, axes, batch, indices, readable, statements, self.scalars, self.scale, counter=self.counter, threads=threads)
        scene.columns, scene.vectors, scene.narrow = columns, self.vectors, self.narrow
        is_persistent = len(axes) == 2 and batch is None and rng.random() < 0.12
        scene.indent += is_persistent
        first = len(self.outputs)
        safe = rng.choice(readable)
        hints = [f"T.annotate_safe_value({{{safe.name}: 2}})"] if rng.random() < 0.15 else []
        if hints and safe.bound is not None:
            safe.bound = bounds.join(safe.bound, Bound(safe.dtype, 2.0))
        if is_product:
            product_statements.product_loop(scene)
        for _ in range(rng.randrange(3) if is_product else rng.randrange(self.length // 2, self.length + 1)):
            if len(scene.lines) < _MOST_LINES:
                scene.statement()
        if not scene.readable():
            tile = scene.tile(tuple(a.block for a in axes))
            scene.emit(f"T.clear({tile.name})")
            tile.bound = Bound(tile.dtype, 0.0)
        results = rng.sample(scene.readable(), min(len(scene.readable()), rng.choice((1, 2, 3, 4, 5))))
        bounds_after: dict[str, Bound] = {}
        for tile in results:
            self._store(scene, tile, bounds_after)
        for tensor in (*self.outputs[first:], *self.workspaces):
            tensor.bound = bounds_after.get(tensor.name, tensor.bound)
        target = f"({', '.join(names)})" if len(names) > 1 else names[0]
        workers = rng.choice((1, 2, 3, 5))
        shape = threads if columns == threads else (columns, threads // columns)
        self.body.append(f"    with T.Kernel({workers if is_persistent else ', '.join(grid)}, threads={shape}) as {'worker' if is_persistent else target}:")
        self.body += [f"        {line}" for line in (*hints, *scene.allocations)]
        if is_persistent:
            self.body.append(f"        for {names[1]}, {names[0]} in T.Persistent([{grid[1]}, {grid[0]}], {workers}, worker, {rng.choice((1, 2, 8))}):")
        self.body += scene.lines
        self.macros += scene.macros
        self.counter = scene.counter

    def _block(self, size: Size, is_even: bool) -> int:
        if is_even:
            return self.rng.choice([n for n in range(1, 65) if size.value % n == 0])
        sizes = SIZES if self.scale == 1 else LARGE_SIZES
        return self.rng.choice([n for n in sizes if n <= 33 * self.scale and n * 8 >= size.value])

    def _store(self, scene: Scene, tile: Tile, after: dict[str, Bound]) -> None:
        """Writes a tile to an output of its own, so that every element is written by one block."""
        rng = self.rng
        blocks = tuple(a.block for a in scene.axes)
        if tile.shape == (scene.axes[0].block,) and len(scene.axes) == 2 and rng.random() < 0.5 and self._atomics(scene, tile, after):
            return
        dtype = tile.dtype
        if rng.random() < 0.4:
            dtype = rng.choice([d for d in TILE_DTYPES if bounds.convert(tile.readable_bound, d) is not None] or [dtype])
        value = bounds.convert(tile.readable_bound, dtype)
        assert value is not None
        batch = [scene.batch] if scene.batch else []
        if tile.shape == blocks:
            sizes = tuple(a.size for a in scene.axes)
            starts = [a.start for a in scene.axes]
            extents: tuple[int, ...] = blocks
            leading = batch
        else:
            leading = [Index(a.variable, a.count) for a in scene.axes] + batch
            counts = [_quotient(a) for a in scene.axes]
            sizes = tuple(Size(str(n), n) for n in tile.shape)
            starts, extents = ["0"] * len(tile.shape), tile.shape
        if dtype.is_packed and sizes[-1].value % 2:  # only whole bytes can be given to a GPU
            dtype, value = dtypes.int8, bounds.with_dtype(value, dtypes.int8)
        batch_sizes = [Size(str(b.extent), b.extent) for b in batch]
        leading_sizes = tuple(batch_sizes) if tile.shape == blocks else (*counts, *batch_sizes)
        output = self._result((*leading_sizes, *sizes), dtype)
        lead = [b.text for b in leading]
        draw = rng.random()
        if draw < 0.4:
            scene.emit(f"T.copy({tile.name}, {output.name}[{', '.join(lead + starts)}])")
        elif draw < 0.6:
            windows = [f"{s}:{s} + {n}" if s != "0" else f"0:{n}" for s, n in zip(starts, extents, strict=True)]
            scene.emit(f"T.copy({tile.name}, {output.name}[{', '.join(lead + windows)}])")
        else:
            value = self._store_elements(scene, tile, output, lead, starts, value)
        after[output.name] = value if output.bound is None else bounds.join(output.bound, value)

    def _store_elements(self, scene: Scene, tile: Tile, output: Tensor, lead: list[str], starts: list[str], value: Bound) -> Bound:
        """A parallel loop that stores the tile, or an expression over it."""
        rng = self.rng
        with parallel_loop(scene, tile.shape) as own:
            places = [i.text if s == "0" else f"{s} + {i.text}" for s, i in zip(starts, own, strict=True)]
            element = Term(f"{tile.name}[{', '.join(i.text for i in own)}]", tile.readable_bound)
            text = element.text
            if rng.random() < 0.5:
                leaves = Leaves(scene, own)
                expressions = Expressions(rng, lambda: element if rng.random() < 0.5 else leaves(), own)
                term = expressions.of_dtype(output.dtype, 2)
                text, value = term.text, bounds.convert(term.bound, output.dtype) or value
            place = f"{output.name}[{', '.join(lead + places)}]"
            sizes = output.sizes[len(lead) :]
            guard = " and ".join(f"{p} < {s.text}" for p, s in zip(places, sizes, strict=True))
            if rng.random() < 0.4:
                with scene.block(f"if {guard}:"):
                    scene.emit(f"{place} = {text}")
            else:
                scene.emit(f"{place} = {text}")
        return value

    def _atomics(self, scene: Scene, tile: Tile, after: dict[str, Bound]) -> bool:
        """Combines a vector of every block into one output with atomics, where no order of them can be told from another."""
        rng, axis = self.rng, scene.axes[0]
        dtype = rng.choice([d for d in _ATOMIC_DTYPES if d == tile.dtype] or _ATOMIC_DTYPES)
        value = bounds.convert(tile.readable_bound, dtype)
        if value is None or not value.is_certain:
            return False
        times = _product(a.count for a in scene.axes[1:]) * (scene.batch.extent if scene.batch else 1)
        total = bounds.accumulate(dtype, value, times, Bound(dtype, 7.0))
        kind = rng.choice(("add", "add", "max", "min"))
        if total is None or (kind == "add" and not total.is_certain):
            return False
        output = self._output((axis.size,), dtype)
        assert output.bound is not None
        with parallel_loop(scene, tile.shape) as own:
            element = f"{tile.name}[{own[0].text}]"
            scene.emit(f"T.atomic_{kind}({output.name}[{axis.start} + {own[0].text}], {element})")
        after[output.name] = total if kind == "add" else bounds.join(value, output.bound)
        return True

    # -- text
    def source(self) -> str:
        """The module's text: the kernel, and what a run needs."""
        sizes = {s.text: s.value for s in (*self.symbols, *self.scalars)}
        tolerances = {t.name: t.bound.error if t.bound else 0.0 for t in self.outputs}
        parameters = [f"{t.name}: {self._declaration(t)}" for t in (*self.inputs, *self.vectors, *self.narrow, *self.outputs)]
        parameters += [f"{s.text}: T.int32" for s in self.scalars]
        workspaces = [f"    {t.name} = T.alloc_global({_shape(t.sizes)}, '{t.dtype}')" for t in self.workspaces]
        lines = [
            "import tilewright.language as T",
            "",
            f"SIZES = {sizes}",
            f"RANGES = {self.limits}",
            f"TOLERANCES = {tolerances}",
            *(f"{s.text} = T.dynamic('{s.text}')" for s in self.symbols),
            "",
            "",
            *self.macros,
            "@T.prim_func",
            "def kernel(" + ",\n           ".join(parameters) + "):",
            *workspaces,
            *self.body,
        ]
        return "\n".join(lines) + "\n"

    def _declaration(self, tensor: Tensor) -> str:
        if tensor.name in self.strides:
            return f"T.StridedTensor({_shape(tensor.sizes)}, {self.strides[tensor.name]}, '{tensor.dtype}')"
        return f"T.Tensor({_shape(tensor.sizes)}, '{tensor.dtype}')"


def _shape(sizes: tuple[Size, ...]) -> str:
    return f"({', '.join(s.text for s in sizes)}{',' * (len(sizes) == 1)})"


def _quotient(axis: Axis) -> Size:
    """The number of blocks along an axis, as an extent."""
    return Size(str(axis.count), axis.count) if axis.size.text.isdecimal() else Size(f"({axis.size.text} + {axis.block - 1}) // {axis.block}", axis.count)


def _product(values: object) -> int:
    result = 1
    for value in values:  # type: ignore[attr-defined]
        result *= value
    return result
