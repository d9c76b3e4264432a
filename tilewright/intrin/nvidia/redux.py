"""`redux.sync`: an integer reduction over the lanes of a warp.

Source: PTX ISA, "redux.sync".
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.intrin.nvidia.inline_asm import RegisterClass, constrained, constrained_value, inline_asm
from tilewright.ir.instruction import Access, Array, Instruction, InstructionScope, RegisterOperand, SimulatedCall, ValueOperand
from tilewright.ir.stmt import ReduceKind
from tilewright.target.nvidia import Feature

_OPERATIONS = {
    ReduceKind.SUM: ("add", np.add),
    ReduceKind.MAX: ("max", np.maximum),
    ReduceKind.MIN: ("min", np.minimum),
    ReduceKind.BIT_AND: ("and", np.bitwise_and),
    ReduceKind.BIT_OR: ("or", np.bitwise_or),
    ReduceKind.BIT_XOR: ("xor", np.bitwise_xor),
}


class Redux(Instruction):
    """Operands: register `dst`, register `src`, value `mask`: the lanes that take part, the same on all of them. Sums wrap modulo 2**32."""

    scope = InstructionScope.WARP
    feature = Feature.REDUX

    def __init__(self, kind: ReduceKind, dtype: DType) -> None:
        if dtype not in (dtypes.int32, dtypes.uint32):
            raise CompilerBug(f"redux.sync takes int32 and uint32, not {dtype!s}")
        text, self._combine = _OPERATIONS[kind]
        is_bitwise = kind in (ReduceKind.BIT_AND, ReduceKind.BIT_OR, ReduceKind.BIT_XOR)
        self.name = f"redux.sync.{text}.{'b32' if is_bitwise else 's32' if dtype.is_signed else 'u32'}"
        self._dst, self._src = RegisterOperand("dst", dtype, 1, Access.WRITE), RegisterOperand("src", dtype, 1, Access.READ)
        self.operands = (self._dst, self._src, ValueOperand("mask", dtypes.uint32))

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        inputs = [*constrained(self._src, operands["src"]), constrained_value(RegisterClass.BITS_32, operands["mask"][0])]
        return inline_asm(f"{self.name} %0, %1, %2;", constrained(self._dst, operands["dst"]), inputs)

    def simulate(self, call: SimulatedCall) -> None:
        """Lanes outside the mask keep their source, where the hardware leaves anything."""
        values = call.registers("src")
        results = values.reshape(-1, 32).copy()
        for lanes, members in zip(results, members_of_warps(call), strict=True):
            lanes[members] = self._combine.reduce(lanes[members], dtype=lanes.dtype)
        call.set_registers("dst", results.reshape(values.shape))


def members_of_warps(call: SimulatedCall) -> Array:
    """(warps, 32) bools: the lanes in the mask operand, which a warp's lanes must agree on. Raises CompilerBug where they do not."""
    masks = call.value("mask").astype(np.uint32).reshape(-1, 32)
    members = (masks[:, :1] >> np.arange(32, dtype=np.uint32) & 1).astype(bool)
    if np.any(masks[members] != np.broadcast_to(masks[:, :1], masks.shape)[members]) or not members.any(axis=1).all():
        raise CompilerBug("the lanes of a warp give different masks, or none is in them")
    return np.asarray(members)


@cache
def redux(kind: ReduceKind, dtype: DType) -> Redux:
    """The reduction of an int32 or uint32: one object for equal arguments."""
    return Redux(kind, dtype)
