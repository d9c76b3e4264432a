"""`dp4a`: four products of bytes added to a word.

Source: PTX ISA, "dp4a".
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.intrin.nvidia.inline_asm import constrained, inline_asm
from tilewright.ir.instruction import Access, Instruction, InstructionScope, RegisterOperand, SimulatedCall


class Dp4a(Instruction):
    """Operands: registers `c` (an int32, read and written), `a`, `b` (four int8 or uint8 each). Sums wrap modulo 2**32."""

    scope = InstructionScope.THREAD
    feature = None

    def __init__(self, a_dtype: DType, b_dtype: DType) -> None:
        types = [("s32" if dtype.is_signed else "u32") for dtype in (a_dtype, b_dtype)]
        self.name = "dp4a." + ".".join(types)
        self._c = RegisterOperand("c", dtypes.int32, 1, Access.READ_WRITE)
        self._a, self._b = RegisterOperand("a", a_dtype, 4, Access.READ), RegisterOperand("b", b_dtype, 4, Access.READ)
        self.operands = (self._c, self._a, self._b)

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        inputs = [*constrained(self._a, operands["a"]), *constrained(self._b, operands["b"])]
        return inline_asm(f"{self.name} %0, %1, %2, %0;", constrained(self._c, operands["c"]), inputs, is_volatile=False)

    def simulate(self, call: SimulatedCall) -> None:
        a, b, c = (call.registers(name).astype(np.int64) for name in "abc")
        call.set_registers("c", ((a * b).sum(axis=1, keepdims=True) + c).astype(np.int32))


@cache
def dp4a(a_dtype: DType, b_dtype: DType) -> Dp4a:
    """The instruction for int8 or uint8 on either side: one object for equal arguments."""
    return Dp4a(a_dtype, b_dtype)
