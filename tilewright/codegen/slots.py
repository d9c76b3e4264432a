"""What a generated entry reads from its caller: one 8-byte slot per tensor, scalar, workspace and symbol (floor 6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr, Op
from tilewright.ir.program import Parameter, Program
from tilewright.ir.visit import subexpressions


class SlotKind(Enum):
    """What the host puts into a slot."""

    TENSOR = "tensor"  # the data pointer of a tensor parameter
    SCALAR = "scalar"  # the value of a scalar parameter: integers extended to 64 bits, float32 and narrower as float32 in the low half, float64 whole
    POINTER = "pointer"  # the address given for a pointer parameter
    WORKSPACE = "workspace"  # the data pointer of a workspace
    SYMBOL = "symbol"  # a dimension or stride, as int64
    STATUS = "status"  # the address of an int32 that is 0 before the call


@dataclass(frozen=True, eq=False)
class Slot:
    """One of the 8-byte slots; the field that its kind names is set."""

    kind: SlotKind
    parameter: Parameter | None = None
    workspace: Buffer | None = None
    symbol: Expr | None = None


def slots_of(program: Program) -> tuple[Slot, ...]:
    """Parameters, workspaces, symbols in order of first appearance, and the status word."""
    slots = [Slot(SlotKind[p.kind.name], parameter=p) for p in program.parameters]
    slots += [Slot(SlotKind.WORKSPACE, workspace=w) for w in program.workspaces]
    slots += [Slot(SlotKind.SYMBOL, symbol=s) for s in symbols_of(program)]
    return (*slots, Slot(SlotKind.STATUS))


def symbols_of(program: Program) -> tuple[Expr, ...]:
    """Variables in shapes and strides of parameters that are no parameters themselves."""
    given = {p.variable for p in program.parameters if p.variable is not None}
    found: dict[Expr, None] = {}
    for parameter in program.parameters:
        if parameter.buffer is not None:
            for extent in (*parameter.buffer.shape, *(parameter.buffer.given_strides or ())):
                if isinstance(extent, Expr):
                    found.update((node, None) for node in subexpressions(extent) if node.op is Op.VAR and node not in given)
    return tuple(found)
