"""New buffers that a pass gives to a launch (floor 5)."""

from __future__ import annotations

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.stmt import Stmt
from tilewright.ir.tileop import TilePlan


class Scratch:
    """New buffers for one launch; also what the operations may ask when they are made into loops for a GPU (`LoweringContext`)."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []

    def make(self, name: str, dtype: DType, shape: tuple[int, ...], scope: Scope, span: Span, source: Buffer | None = None) -> Buffer:
        buffer = Buffer(name, dtype, shape, scope, span, source=source)
        self.buffers.append(buffer)
        return buffer

    def scratch(self, name: str, dtype: DType, shape: tuple[int, ...], span: Span) -> Buffer:
        return self.make(name, dtype, shape, Scope.SHARED, span)

    def variable(self, name: str, dtype: DType, span: Span) -> Buffer:
        return self.make(name, dtype, (1,), Scope.VARIABLE, span)

    def plan(self, buffer: Buffer) -> TilePlan:
        raise CompilerBug(f"a GPU has no plan of {buffer.name}: its operations are lowered by other passes")

    def panel_columns(self, dtype: DType) -> int:
        raise CompilerBug("a GPU packs no panels")

    def lower_packed_copy(self, copy: object) -> Stmt | None:
        return None
