"""`lop3.b32`: any bitwise function of three words.

Source: PTX ISA, "lop3".
"""

from __future__ import annotations

import numpy as np

from tilewright import dtypes
from tilewright.intrin.nvidia.inline_asm import RegisterClass, constrained, constrained_value, inline_asm
from tilewright.ir.instruction import Access, ImmediateOperand, Instruction, InstructionScope, RegisterOperand, SimulatedCall, ValueOperand

_DST = RegisterOperand("dst", dtypes.uint32, 1, Access.WRITE)


class Lop3(Instruction):
    """Operands: register `dst`, values `a`, `b`, `c`, immediate `table`: the function of 0xF0, 0xCC and 0xAA, 0 to 255."""

    name = "lop3.b32"
    scope = InstructionScope.THREAD
    feature = None
    operands = (_DST, *(ValueOperand(name, dtypes.uint32) for name in "abc"), ImmediateOperand("table"))

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        inputs = [constrained_value(RegisterClass.BITS_32, operands[name][0]) for name in "abc"]
        return inline_asm(f"lop3.b32 %0, %1, %2, %3, {operands['table'][0]};", constrained(_DST, operands["dst"]), inputs, is_volatile=False)

    def simulate(self, call: SimulatedCall) -> None:
        a, b, c = (call.value(name).astype(np.uint32) for name in "abc")
        table, result = call.immediate("table"), np.zeros_like(a)
        for row in range(8):
            if table >> row & 1:
                result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
        call.set_registers("dst", result[:, None])


LOP3 = Lop3()
