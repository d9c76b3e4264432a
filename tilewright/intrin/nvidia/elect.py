"""`elect.sync`: one lane of a warp is chosen, the same one for the same mask.

Source: PTX ISA, "elect.sync". Which lane it is, the instruction set leaves open; the simulator takes the lowest.
"""

from __future__ import annotations

import numpy as np

from tilewright import dtypes
from tilewright.intrin.nvidia.inline_asm import RegisterClass, constrained, constrained_value, inline_asm
from tilewright.intrin.nvidia.redux import members_of_warps
from tilewright.ir.instruction import Access, Instruction, InstructionScope, RegisterOperand, SimulatedCall, ValueOperand
from tilewright.target.nvidia import Feature

_DST = RegisterOperand("is_elected", dtypes.int32, 1, Access.WRITE)


class Elect(Instruction):
    """Operands: register `is_elected` (1 on one lane, 0 on the others), value `mask`: the lanes that take part."""

    name = "elect.sync"
    scope = InstructionScope.WARP
    feature = Feature.ELECT
    operands = (_DST, ValueOperand("mask", dtypes.uint32))

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        text = "{ .reg .pred elected; elect.sync _|elected, %1; selp.b32 %0, 1, 0, elected; }"
        return inline_asm(text, constrained(_DST, operands["is_elected"]), [constrained_value(RegisterClass.BITS_32, operands["mask"][0])])

    def simulate(self, call: SimulatedCall) -> None:
        members = members_of_warps(call)
        is_elected = np.zeros(members.shape, np.int32)
        is_elected[np.arange(len(members)), members.argmax(axis=1)] = 1
        call.set_registers("is_elected", is_elected.reshape(-1, 1))


ELECT = Elect()
