"""The interface of a tile operation (floor 2). Concrete ones are `tilewright.ops`, one file each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer, Region
from tilewright.ir.expr import Expr
from tilewright.ir.stmt import Stmt
from tilewright.layout import Layout, MemoryLayout, TableLayout
from tilewright.target.nvidia import NvidiaTarget


@dataclass(frozen=True, eq=False)
class Effects:
    """What an operation touches. Regions are the boxes that it may touch, not clipped."""

    reads: tuple[Region, ...] = ()
    writes: tuple[Region, ...] = ()
    is_atomic: bool = False  # the writes combine with what is there, in any order


class ReferenceEnvironment(Protocol):
    """What `TileOp.reference` may ask of the interpreter."""

    def value(self, expression: Expr) -> Any:
        """The value of a scalar expression now, as a numpy scalar of its dtype."""
        ...

    def array(self, buffer: Buffer) -> np.ndarray[Any, Any]:
        """The whole buffer, writable, in its numpy dtype (sub-byte types one byte each)."""
        ...

    def safe_value(self, buffer: Buffer) -> Any:
        """What a load outside a global buffer gives."""
        ...

    def convert(self, values: np.ndarray[Any, Any], source: DType, target: DType) -> np.ndarray[Any, Any]:
        """Elements of one dtype as another, with the language's rules for casts."""
        ...

    def box(self, region: Region) -> tuple[tuple[int, int], ...]:
        """(start, extent) of each axis now."""
        ...


class Storage(Enum):
    """How a CPU keeps a tile: as declared, or in the layout that its consumer wants."""

    ROW_MAJOR = "row-major"
    PANELS = "panels"  # (k, n) as [n // width][k][n % width], for the second operand of a product


@dataclass(frozen=True, eq=False)
class TilePlan:
    """The CPU's choice for one tile.

    dtype       what the elements are stored as: the declared dtype, or a wider one that holds it exactly (fp16 kept as fp32).
    storage     the layout; where it is PANELS, a panel is `panel_columns` wide and takes `panel_stride` elements.
    row_pitch   elements from one row of the last axis to the next where it is ROW_MAJOR.
    is_transposed  the panels are of the tile's transpose: the tile is (n, k), the product wants (k, n).
    """

    dtype: DType
    storage: Storage
    row_pitch: int
    panel_columns: int = 0
    panel_stride: int = 0
    is_transposed: bool = False


class LoweringContext(Protocol):
    """What a CPU lowering may ask."""

    def plan(self, buffer: Buffer) -> TilePlan:
        """How a tile is stored."""
        ...

    def panel_columns(self, dtype: DType) -> int:
        """Columns of a panel of a product's second operand."""
        ...

    def lower_packed_copy(self, copy: Any) -> Stmt | None:
        """A copy whose destination is kept in panels, as the packing of it; None for any other copy."""
        ...

    def scratch(self, name: str, dtype: DType, shape: tuple[int, ...], span: Span) -> Buffer:
        """A fresh tile of the block, for use inside one lowered operation."""
        ...


class ScratchContext(Protocol):
    """Where an operation that becomes loops gets its variables."""

    def variable(self, name: str, dtype: DType, span: Span) -> Buffer:
        """A fresh scalar that each thread has of its own."""
        ...


class ThreadContext(Protocol):
    """What lowering an operation to the threads of a GPU's block may ask."""

    @property
    def num_threads(self) -> int:
        """Threads of the block."""
        ...

    @property
    def lane(self) -> Expr:
        """The thread's number in its warp, int32."""
        ...

    @property
    def warp(self) -> Expr:
        """The warp's number in the block, int32."""
        ...

    @property
    def target(self) -> NvidiaTarget:
        """The architecture."""
        ...

    def fragment(self, buffer: Buffer) -> tuple[Layout, Buffer]:
        """(reg, lane, warp) -> d0, d1, … of a fragment, and the LOCAL array of its registers."""
        ...

    def shared(self, buffer: Buffer) -> tuple[MemoryLayout | TableLayout, Buffer]:
        """d0, d1, … -> element of a shared tile, and the buffer of one axis that it is."""
        ...

    @property
    def is_repeated(self) -> bool:
        """Whether the operation stands in a loop, so that a thread may begin it again while others have not ended it."""
        ...

    def registers(self, name: str, dtype: DType, count: int, span: Span, source: Buffer | None = None) -> Buffer:
        """A fresh LOCAL array, or `source` read as one of another dtype."""
        ...

    def scratch(self, name: str, dtype: DType, elements: int, span: Span) -> Buffer:
        """A fresh SHARED buffer of one axis."""
        ...

    def remark(self, span: Span, text: str) -> None:
        """Tells the user of a choice."""
        ...


@dataclass(frozen=True, eq=False)
class TileOp(Stmt):
    """One operation on tiles, a statement. A subclass is a whole op: fields, checks, meaning, effects, lowering."""

    def effects(self) -> Effects:
        raise CompilerBug(f"{type(self).__name__} declares no effects")

    def with_regions(self, change: Callable[[Region], Region]) -> TileOp:
        """The operation on other regions: `change` may give a region's buffer more axes in front, on which the region is one place that is not sliced."""
        changed: dict[str, Any] = {name: change(value) for name, value in vars(self).items() if isinstance(value, Region)}
        return dataclasses.replace(self, **changed)

    def reference(self, environment: ReferenceEnvironment) -> None:
        """The meaning, in numpy on whole tiles: the oracle for every back end."""
        raise CompilerBug(f"{type(self).__name__} has no reference")

    def lower(self, context: LoweringContext) -> Stmt:
        """Loops, scalar statements and MatrixMultiply with the same meaning, for a CPU."""
        raise CompilerBug(f"{type(self).__name__} has no CPU lowering")

    def lower_to_threads(self, context: ThreadContext) -> Stmt:
        """What one thread of a GPU's block does; barriers for what the operation's own threads exchange are part of it."""
        raise CompilerBug(f"{type(self).__name__} is no operation that is lowered to threads whole")
