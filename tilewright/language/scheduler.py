"""`T.PersistentTileScheduler`: which tiles a persistent block works on, one after the other (floor 5; language.md 6)."""

from __future__ import annotations

from typing import Any

from tilewright.errors import Kind, fail
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, as_expr, as_integer, binary, const, describe_operand, minimum
from tilewright.ir.operation import Op
from tilewright.language.alloc import alloc_var
from tilewright.language.builder import name_buffer, program_builder


class PersistentTileScheduler:
    """Tiles of a grid of num_m_tiles x num_n_tiles, dealt out to `num_workers` blocks in turn.

    num_workers   how many blocks share the tiles; the grid of the launch divided by cluster_size where it is left out.
    swizzle_size  tiles are counted in panels of that many columns (rows with column_major=False), row by row inside a panel, which keeps operands in
                  caches. With 1 they are counted column by column (row by row).
    stateful      False: only `coord` is used, and no variables are made.

    `init(worker)` begins with the worker's first tile; while `valid()`, the tile is (`m_idx`, `n_idx`), and `next_tile()` goes on.
    """

    def __init__(
        self,
        num_m_tiles: Any,
        num_n_tiles: Any,
        num_workers: Any = None,
        swizzle_size: int = 1,
        column_major: bool = True,
        cluster_size: int = 1,
        stateful: bool = True,
        name: str | None = None,
    ) -> None:
        builder = program_builder()
        self._span = builder.here()
        launch = builder.require_launch("T.PersistentTileScheduler", self._span)
        self._panel, cluster = self._count(swizzle_size, "swizzle_size"), self._count(cluster_size, "cluster_size")
        self._is_column_major = bool(column_major)
        self._tiles = as_expr(num_m_tiles), as_expr(num_n_tiles)
        if num_workers is None:
            blocks: Expr = const(1)
            for extent in launch.grid:
                blocks = blocks * extent
            num_workers = blocks // cluster
        self._workers = as_expr(num_workers)
        self._total = self._tiles[0] * self._tiles[1]
        self._linear: Buffer | None = None
        self._turn: Buffer | None = None
        if stateful:
            self._linear, self._turn = alloc_var("int32"), alloc_var("int32")
            prefix = name if isinstance(name, str) else "scheduler"
            name_buffer(self._linear, f"{prefix}_tile")
            name_buffer(self._turn, f"{prefix}_turn")

    def _count(self, value: Any, name: str) -> int:
        number = as_integer(value)
        if number is None or number < 1:
            fail(
                Kind.OPTION_VALUE,
                f"{name} of T.PersistentTileScheduler is {describe_operand(value)}",
                self._span,
                because="it is a positive number, known when the kernel is traced",
                help="leave it out for 1",
            )
        return number

    def _state(self) -> tuple[Buffer, Buffer]:
        if self._linear is None or self._turn is None:
            fail(
                Kind.OPTION_VALUE,
                "a T.PersistentTileScheduler with stateful=False was asked for its tile",
                program_builder().here(),
                because="without variables it only computes coord(id)",
                help="leave stateful out",
            )
        return self._linear, self._turn

    def init(self, worker: Any) -> None:
        """Begins with the first tile of a worker."""
        linear, turn = self._state()
        builder = program_builder()
        builder.store(linear, 0, worker)
        builder.store(turn, 0, 0)

    def valid(self) -> Expr:
        """Whether there is a tile."""
        return binary(Op.LT, self.linear_idx, self._total)

    def next_tile(self) -> None:
        """Goes on to the worker's next tile."""
        linear, turn = self._state()
        builder = program_builder()
        builder.store(linear, 0, linear.as_expression() + self._workers)
        builder.store(turn, 0, turn.as_expression() + 1)

    def coord(self, tile: Any) -> tuple[Expr, Expr]:
        """(m, n) of the tile with that number."""
        along, across = self._tiles if self._is_column_major else self._tiles[::-1]
        number = as_expr(tile)
        panel = number // (along * self._panel)
        inside = number % (along * self._panel)
        width = minimum(across - panel * self._panel, self._panel)
        first, second = inside // width, panel * self._panel + inside % width
        return (first, second) if self._is_column_major else (second, first)

    @property
    def linear_idx(self) -> Expr:
        """The number of the tile."""
        return self._state()[0].as_expression()

    @property
    def current_iter(self) -> Expr:
        """How many tiles this worker has done."""
        return self._state()[1].as_expression()

    @property
    def m_idx(self) -> Expr:
        return self.coord(self.linear_idx)[0]

    @property
    def n_idx(self) -> Expr:
        return self.coord(self.linear_idx)[1]
