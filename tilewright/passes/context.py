"""What a pass is given besides the program (floor 5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilewright.dtypes import DType
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer
from tilewright.ir.tileop import TilePlan
from tilewright.target.cpu import CpuTarget


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

    target: CpuTarget
    plans: dict[Buffer, TilePlan] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)

    def panel_columns(self, dtype: DType) -> int:
        """Columns of a panel of a product's second operand."""
        return self.target.micro_tile.column_vectors * self.target.lanes(dtype.itemsize)

    def remark(self, span: Span, text: str) -> None:
        self.remarks.append(Remark(span, text))
