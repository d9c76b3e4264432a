"""`prmt.b32`: four bytes picked from eight.

Source: PTX ISA, "prmt", default mode.
"""

from __future__ import annotations

import numpy as np

from tilewright import dtypes
from tilewright.intrin.nvidia.inline_asm import RegisterClass, constrained, constrained_value, inline_asm
from tilewright.ir.instruction import Access, Instruction, InstructionScope, RegisterOperand, SimulatedCall, ValueOperand

_DST = RegisterOperand("dst", dtypes.uint32, 1, Access.WRITE)
_INPUTS = ("a", "b", "selector")


class Prmt(Instruction):
    """Operands: register `dst`, values `a`, `b`, `selector`.

    Byte i of dst is byte `selector >> 4 * i & 7` of a (0 to 3) and b (4 to 7); where bit 3 of the four is set, its sign in all eight bits.
    """

    name = "prmt.b32"
    scope = InstructionScope.THREAD
    feature = None
    operands = (_DST, *(ValueOperand(name, dtypes.uint32) for name in _INPUTS))

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        inputs = [constrained_value(RegisterClass.BITS_32, operands[name][0]) for name in _INPUTS]
        return inline_asm("prmt.b32 %0, %1, %2, %3;", constrained(_DST, operands["dst"]), inputs, is_volatile=False)

    def simulate(self, call: SimulatedCall) -> None:
        a, b, selector = (call.value(name).astype(np.uint64) for name in _INPUTS)
        both, result = a | b << np.uint64(32), np.zeros_like(a)
        for position in range(4):
            nibble = selector >> np.uint64(4 * position)
            byte = both >> (nibble & 7) * 8 & 0xFF
            byte = np.where(nibble & 8, (byte >> 7) * 0xFF, byte)
            result |= byte << np.uint64(8 * position)
        call.set_registers("dst", result.astype(np.uint32)[:, None])


PRMT = Prmt()
