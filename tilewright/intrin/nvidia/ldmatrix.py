"""`ldmatrix`: up to four 8 x 8 matrices of 16-bit units from shared memory into the registers that `mma.sync` takes.

Row r of matrix j is the 16 bytes that lane 8 * j + r points to; other lanes' addresses are not used. Afterwards register j of lane 4 * r + q holds bytes
4 * q to 4 * q + 3 of row r of matrix j, whatever their dtype. With .trans it holds the units (2 * q, r) and (2 * q + 1, r): (row, column).
Source: PTX ISA, "ldmatrix".
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.intrin.nvidia.inline_asm import SHARED_ADDRESS, constrained, constrained_value, inline_asm, numbered
from tilewright.intrin.nvidia.register_bytes import bytes_to_elements
from tilewright.ir.buffer import Scope
from tilewright.ir.instruction import Access, AddressOperand, Array, Instruction, InstructionScope, RegisterOperand, SimulatedCall
from tilewright.target.nvidia import Feature

ROW_BYTES = 16
MATRIX_ROWS = 8


class LdMatrix(Instruction):
    """Operands: registers `dst` (one 32-bit register per matrix), address `row`."""

    scope = InstructionScope.WARP
    feature = Feature.LDMATRIX

    def __init__(self, dtype: DType, matrices: int, is_transposed: bool) -> None:
        check_matrices(dtype, matrices, is_transposed)
        self.dtype, self.matrices, self.is_transposed = dtype, matrices, is_transposed
        self.name = f"ldmatrix.x{matrices}{'.trans' if is_transposed else ''}.{dtype!s}"
        self._dst = RegisterOperand("dst", dtype, matrices * 32 // dtype.bits, Access.WRITE)
        self.operands = (self._dst, AddressOperand("row", Scope.SHARED, ROW_BYTES, Access.READ))

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        text = f"ldmatrix.sync.aligned.m8n8.x{self.matrices}{'.trans' if self.is_transposed else ''}.shared.b16 {numbered(self.matrices)}, [%{self.matrices}];"
        return inline_asm(text, constrained(self._dst, operands["dst"]), [constrained_value(SHARED_ADDRESS, operands["row"][0])], touches_memory=True)

    def simulate(self, call: SimulatedCall) -> None:
        rows = call.read("row", addressing_lanes(call.num_threads, self.matrices)).reshape(-1, 32, ROW_BYTES)
        matrices = rows[:, : MATRIX_ROWS * self.matrices].reshape(-1, self.matrices, MATRIX_ROWS, ROW_BYTES)
        call.set_registers("dst", bytes_to_elements(matrices_to_registers(matrices, self.is_transposed), self.dtype))


def check_matrices(dtype: DType, matrices: int, is_transposed: bool) -> None:
    """Raises CompilerBug where neither ldmatrix nor stmatrix has such a form."""
    if matrices not in (1, 2, 4) or dtype.bits > 32 or (is_transposed and dtype.bits != 16):
        raise CompilerBug(f"no ldmatrix or stmatrix moves {matrices} matrices of {dtype!s}{' transposed' if is_transposed else ''}")


def addressing_lanes(num_threads: int, matrices: int) -> Array:
    """(threads,) bools: which lanes give the address of a row."""
    return np.asarray(np.arange(num_threads) % 32 < MATRIX_ROWS * matrices)


def matrices_to_registers(matrices: Array, is_transposed: bool) -> Array:
    """(warps, matrices, 8 rows, 16 bytes) as the bytes of each lane's registers: (threads, 4 * matrices)."""
    if is_transposed:
        matrices = np.ascontiguousarray(matrices).view(np.uint16).swapaxes(-1, -2)
        matrices = np.ascontiguousarray(matrices).view(np.uint8)
    by_lane = matrices.reshape(*matrices.shape[:2], 32, 4).swapaxes(1, 2)  # lane 4 * r + q: quarter q of row r
    return np.ascontiguousarray(by_lane).reshape(-1, 4 * by_lane.shape[2])


@cache
def ldmatrix(dtype: DType, matrices: int, is_transposed: bool = False) -> LdMatrix:
    """The instruction that loads elements of `dtype` (at most 32 bits; 16 where transposed): one object for equal arguments."""
    return LdMatrix(dtype, matrices, is_transposed)
