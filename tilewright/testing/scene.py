"""The state of a program while it is generated: its tensors, tiles, text, and what may be read and written (floor 9)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype
from tilewright.testing.bounds import Bound, join
from tilewright.testing.expressions import Index

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 15, 16, 17, 23, 24, 31, 32, 33, 40, 47, 48, 63, 64, 65)
LARGE_SIZES = (*SIZES[10:], 80, 96, 100, 127, 128, 129, 160, 192, 255, 256, 257)
TILE_DTYPES = (
    (dtypes.float32,) * 6
    + (dtypes.float16,) * 4
    + (dtypes.bfloat16,) * 2
    + (dtypes.int32,) * 4
    + (dtypes.int8, dtypes.int8, dtypes.uint8, dtypes.int16, dtypes.int64, dtypes.uint32, dtypes.float64, as_dtype("float8_e4m3fn"), as_dtype("float8_e5m2"))
)
ACCUMULATOR_DTYPES = (dtypes.float32, dtypes.float32, dtypes.int32, dtypes.float64, dtypes.float16)


@dataclass(frozen=True)
class Size:
    """An extent: how the program writes it, and its value in this run."""

    text: str
    value: int


@dataclass(eq=False)
class Tensor:
    """A parameter in global memory. `bound` is None until something has been written to an output."""

    name: str
    sizes: tuple[Size, ...]
    dtype: DType
    bound: Bound | None


@dataclass(eq=False)
class Tile:
    """A buffer of the block. `bound` is None while its elements are unknown."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    scope: str
    bound: Bound | None = None

    @property
    def readable_bound(self) -> Bound:
        assert self.bound is not None
        return self.bound


@dataclass
class Axis:
    """An axis of the launch's domain: `size` elements in pieces of `block`, the piece named by a block variable."""

    size: Size
    block: int
    variable: str

    @property
    def count(self) -> int:
        return -(-self.size.value // self.block)

    @property
    def start(self) -> str:
        return f"{self.variable} * {self.block}"


@dataclass
class Scene:
    """One launch being written.

    axes        the domain: one or two axes that outputs run along.
    batch       a block variable over slices, if there is one.
    indices     uniform integers in scope.
    scalars     runtime parameters that a loop may turn by.
    scale       how much larger than usual its tiles may be.
    threads     threads of a block.
    columns     those along its first axis; all of them in most blocks.
    statements  what a statement may be, with weights; each writes itself into the scene, or gives False.
    vectors     tensors whose elements are vectors; `dtype.scalar` is that of `bound`.
    narrow      tensors of two axes whose elements have 4 bits.
    turns       how often the statement being written runs at most in one block.
    hidden      tiles that may not be touched: accumulators of the open loops.
    writable    None: every tile; else those that the open loop or branch may write.
    """

    rng: random.Random
    axes: list[Axis]
    batch: Index | None
    indices: list[Index]
    inputs: list[Tensor]
    statements: Sequence[tuple[Callable[[Scene], bool], int]]
    scalars: list[Size] = field(default_factory=list)
    scale: int = 1
    lines: list[str] = field(default_factory=list)
    allocations: list[str] = field(default_factory=list)
    macros: list[str] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    writable: set[str] | None = None
    indent: int = 2
    turns: int = 1
    depth: int = 0
    counter: int = 0
    threads: int = 128
    columns: int = 128
    vectors: list[Tensor] = field(default_factory=list)
    narrow: list[Tensor] = field(default_factory=list)

    def emit(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """An indented block; `pass` where nothing is written into it."""
        self.emit(header)
        self.indent += 1
        length = len(self.lines)
        yield
        if len(self.lines) == length:
            self.emit("pass")
        self.indent -= 1

    def statement(self) -> None:
        """Writes one random statement that is valid here."""
        choices, weights = [s for s, _ in self.statements], [w for _, w in self.statements]
        for _ in range(6):
            if self.rng.choices(choices, weights)[0](self):
                return

    def name(self, prefix: str) -> str:
        self.counter += 1
        return f"{prefix}{self.counter}"

    def tile(self, shape: tuple[int, ...], dtype: DType | None = None, scope: str | None = None) -> Tile:
        """A fresh tile, allocated at the top of the launch."""
        scope = scope or self.rng.choice(("shared", "fragment"))
        made = Tile(self.name(scope[0]), shape, dtype or self.rng.choice(TILE_DTYPES), scope)
        self.allocations.append(f"{made.name} = T.alloc_{scope}({shape if len(shape) > 1 else f'({shape[0]},)'}, '{made.dtype}')")
        self.tiles.append(made)
        if self.writable is not None:
            self.writable.add(made.name)
        return made

    def variable(self, dtype: DType) -> str:
        """A fresh T.alloc_var."""
        made = self.name("v")
        self.allocations.append(f"{made} = T.alloc_var('{dtype}')")
        return made

    def readable(self) -> list[Tile]:
        return [t for t in self.tiles if t.bound is not None and t.name not in self.hidden]

    def targets(self) -> list[Tile]:
        """Tiles that hold something and may be overwritten in part."""
        return [t for t in self.readable() if self.writable is None or t.name in self.writable]

    def small_shape(self) -> tuple[int, ...]:
        """A tile shape: often that of the launch's blocks."""
        blocks = tuple(a.block for a in self.axes)
        draw = self.rng.random()
        if draw < 0.5:
            return blocks
        if draw < 0.65:
            return (blocks[0],)
        rank = self.rng.choice((1, 2, 2, 2, 3))
        return tuple(self.rng.choice(self.sizes({1: 65, 2: 33, 3: 9}[rank])) for _ in range(rank))

    def sizes(self, limit: int) -> list[int]:
        """Extents up to `limit`, or up to as many times more as this scene is larger."""
        return [n for n in (SIZES if self.scale == 1 else LARGE_SIZES) if n <= limit * self.scale]

    def destination(self, shape: tuple[int, ...], dtype: DType | None = None, scope: str | None = None) -> Tile:
        """A tile of a shape that may be overwritten whole: an old one or a fresh one."""
        old = [t for t in self.targets() if t.shape == shape and dtype in (None, t.dtype) and scope in (None, t.scope)]
        return self.rng.choice(old) if old and self.rng.random() < 0.3 else self.tile(shape, dtype, scope)

    def write(self, tile: Tile, bound: Bound, *, is_whole: bool) -> None:
        """Records a store into a tile."""
        tile.bound = bound if is_whole or tile.bound is None else join(tile.bound, bound)
