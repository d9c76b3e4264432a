"""`stmatrix`: the inverse of `ldmatrix`, registers laid out as `mma.sync` leaves them to rows of 16 bytes in shared memory.

Source: PTX ISA, "stmatrix".
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tilewright.dtypes import DType
from tilewright.intrin.nvidia.inline_asm import SHARED_ADDRESS, constrained, constrained_value, inline_asm, numbered
from tilewright.intrin.nvidia.ldmatrix import MATRIX_ROWS, ROW_BYTES, addressing_lanes, check_matrices
from tilewright.intrin.nvidia.register_bytes import elements_to_bytes
from tilewright.ir.buffer import Scope
from tilewright.ir.instruction import Access, AddressOperand, Array, Instruction, InstructionScope, RegisterOperand, SimulatedCall
from tilewright.target.nvidia import Feature


class StMatrix(Instruction):
    """Operands: address `row`, registers `src` (one 32-bit register per matrix)."""

    scope = InstructionScope.WARP
    feature = Feature.STMATRIX

    def __init__(self, dtype: DType, matrices: int, is_transposed: bool) -> None:
        check_matrices(dtype, matrices, is_transposed)
        self.dtype, self.matrices, self.is_transposed = dtype, matrices, is_transposed
        self.name = f"stmatrix.x{matrices}{'.trans' if is_transposed else ''}.{dtype!s}"
        self._src = RegisterOperand("src", dtype, matrices * 32 // dtype.bits, Access.READ)
        self.operands = (AddressOperand("row", Scope.SHARED, ROW_BYTES, Access.WRITE), self._src)

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        text = f"stmatrix.sync.aligned.m8n8.x{self.matrices}{'.trans' if self.is_transposed else ''}.shared.b16 [%0], {numbered(self.matrices, 1)};"
        inputs = [constrained_value(SHARED_ADDRESS, operands["row"][0]), *constrained(self._src, operands["src"])]
        return inline_asm(text, (), inputs, touches_memory=True)

    def simulate(self, call: SimulatedCall) -> None:
        matrices = registers_to_matrices(elements_to_bytes(call.registers("src"), self.dtype), self.is_transposed)
        rows = np.zeros((len(matrices), 32, ROW_BYTES), np.uint8)
        rows[:, : MATRIX_ROWS * self.matrices] = matrices.reshape(len(matrices), -1, ROW_BYTES)
        call.write("row", rows.reshape(-1, ROW_BYTES), addressing_lanes(call.num_threads, self.matrices))


def registers_to_matrices(octets: Array, is_transposed: bool) -> Array:
    """The bytes of each lane's registers, (threads, 4 * matrices), as (warps, matrices, 8 rows, 16 bytes)."""
    by_lane = octets.reshape(-1, 32, octets.shape[1] // 4, 4)
    matrices = np.ascontiguousarray(by_lane.swapaxes(1, 2)).reshape(len(by_lane), -1, MATRIX_ROWS, ROW_BYTES)
    if is_transposed:
        matrices = np.ascontiguousarray(matrices.view(np.uint16).swapaxes(-1, -2)).view(np.uint8)
    return matrices


@cache
def stmatrix(dtype: DType, matrices: int, is_transposed: bool = False) -> StMatrix:
    """The instruction that stores elements of `dtype` (at most 32 bits; 16 where transposed): one object for equal arguments."""
    return StMatrix(dtype, matrices, is_transposed)
