"""What a pass is given besides the program (floor 5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer
from tilewright.ir.tileop import TilePlan
from tilewright.target.cpu import CpuTarget
from tilewright.target.nvidia import NvidiaTarget


@dataclass(frozen=True)
class Remark:
    """A choice that the compiler made and the user may want to know: `tilewright inspect` lists them."""

    span: Span
    text: str


@dataclass
class PassContext:
    """One compilation.

    plans    how each tile is stored, filled in by `plan_tiles`.
    remarks  in the order they were made.
    """

    target: CpuTarget | NvidiaTarget
    plans: dict[Buffer, TilePlan] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)

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

    def remark(self, span: Span, text: str) -> None:
        self.remarks.append(Remark(span, text))
