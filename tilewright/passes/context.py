"""What a pass is given besides the program (floor 5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer
from tilewright.ir.stmt import For
from tilewright.ir.tileop import TilePlan
from tilewright.target.cpu import CpuTarget
from tilewright.target.nvidia import NvidiaTarget


@dataclass(frozen=True)
class Remark:
    """A choice that the compiler made and the user may want to know: `tilewright inspect` lists them."""

    span: Span
    text: str


@dataclass(kw_only=True)
class Remarks:
    """What every compilation has, whatever its target: the remarks, in the order they were made."""

    remarks: list[Remark] = field(default_factory=list)

    def remark(self, span: Span, text: str) -> None:
        self.remarks.append(Remark(span, text))


@dataclass
class PassContext(Remarks):
    """One compilation for a CPU.

    plans    how each tile is stored, filled in by `plan_tiles`.
    """

    target: CpuTarget | NvidiaTarget
    plans: dict[Buffer, TilePlan] = field(default_factory=dict)

    @property
    def cpu(self) -> CpuTarget:
        """The target of the passes for CPUs."""
        if not isinstance(self.target, CpuTarget):
            raise CompilerBug(f"a pass for CPUs was run for {self.target.name}")
        return self.target

    @property
    def nvidia(self) -> NvidiaTarget:
        """The target of the passes for GPUs."""
        if not isinstance(self.target, NvidiaTarget):
            raise CompilerBug(f"a pass for GPUs was run for {self.target.name}")
        return self.target

    def panel_columns(self, dtype: DType) -> int:
        """Columns of a panel of a product's second operand."""
        return self.cpu.micro_tile.column_vectors * self.cpu.lanes(dtype.itemsize)


@dataclass(frozen=True)
class TileVersions:
    """A tile that a pipeline keeps several times, one slot for each turn of the loop that is under way: the leading axis of its buffer.

    original  the tile as the user allocated it; `count` slots; `loop` is the pipeline that asks for the most of them.
    """

    original: Buffer
    count: int
    loop: For


@dataclass
class GpuPassContext(Remarks):
    """One compilation for a GPU.

    versions  the tiles that `expand_pipeline` made.
    """

    target: NvidiaTarget
    versions: dict[Buffer, TileVersions] = field(default_factory=dict)
