"""What a pass is given besides the program (floor 5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilewright.dtypes import DType
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr
from tilewright.ir.stmt import For
from tilewright.ir.tileop import TilePlan
from tilewright.layout import Layout, MemoryLayout, TableLayout
from tilewright.target.cpu import CpuTarget
from tilewright.target.nvidia import NvidiaTarget


@dataclass(frozen=True)
class Remark:
    """A choice that the compiler made and the user may want to know: `tilewright inspect` lists them."""

    span: Span
    text: str


@dataclass(kw_only=True)
class Remarks:
    """What every compilation has, whatever its target: the remarks, each once, in the order they were made."""

    remarks: list[Remark] = field(default_factory=list)

    def remark(self, span: Span, text: str) -> None:
        made = Remark(span, text)
        if made not in self.remarks:
            self.remarks.append(made)


@dataclass
class PassContext(Remarks):
    """One compilation for a CPU.

    plans    how each tile is stored, filled in by `plan_tiles`.
    """

    target: CpuTarget
    plans: dict[Buffer, TilePlan] = field(default_factory=dict)

    def panel_columns(self, dtype: DType) -> int:
        """Columns of a panel of a product's second operand."""
        return self.target.micro_tile.column_vectors * self.target.lanes(dtype.itemsize)


@dataclass(frozen=True)
class TileVersions:
    """A tile that a pipeline keeps several times, one slot for each turn of the loop that is under way: the leading axis of its buffer.

    original  the tile as the user allocated it; `count` slots; `loop` is the pipeline that asks for the most of them.
    carried   the variables of the loops that keep something in the tile from one turn to the next: its pipelines, and what the user's own code needs.
    """

    original: Buffer
    count: int
    loop: For
    carried: frozenset[Expr]


@dataclass(frozen=True, eq=False)
class Formula:
    """Where an element of a tile lies: `place` in terms of its indices, `variables`."""

    variables: tuple[Expr, ...]
    place: Expr


@dataclass
class GpuPassContext(Remarks):
    """One compilation for a GPU.

    versions   the tiles that `expand_pipeline` made.
    fragments  per FRAGMENT buffer: (reg, lane, warp) -> d0, d1, …, filled in by `infer_layouts`.
    shared     per SHARED buffer that is no view: d0, d1, … -> element; row-major where it is missing.
    formulas   the same for those whose layout is a TableLayout, computed.
    carried    per SHARED tile that is no view: the variables of the loops that keep something in it from one turn to the next, filled in by `find_lifetimes`.
    tile_loops the variables of the loops that the program had before it was lowered to threads, filled in by `find_lifetimes`.
    is_rounding_to_tf32   the caller allows products of float32 tiles with operands rounded to tf32.
    origins    per SHARED buffer of the thread-level program: the tile that it stands for; scratch memory of one operation is missing.
    """

    target: NvidiaTarget
    versions: dict[Buffer, TileVersions] = field(default_factory=dict)
    fragments: dict[Buffer, Layout] = field(default_factory=dict)
    shared: dict[Buffer, MemoryLayout | TableLayout] = field(default_factory=dict)
    formulas: dict[Buffer, Formula] = field(default_factory=dict)
    carried: dict[Buffer, frozenset[Expr]] = field(default_factory=dict)
    tile_loops: set[Expr] = field(default_factory=set)
    origins: dict[Buffer, Buffer] = field(default_factory=dict)
    is_rounding_to_tf32: bool = False
