"""Statements that only thread-level programs hold (floor 2): what the GPU passes lower tile programs to, printers print and the simulator runs.

Every thread of the block runs the body. FRAGMENT buffers are gone: SHARED and LOCAL buffers have one axis, GLOBAL ones keep theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr
from tilewright.ir.instruction import Instruction
from tilewright.ir.stmt import Stmt


@dataclass(frozen=True, eq=False)
class Address:
    """An element of a GLOBAL or SHARED buffer, or of a LOCAL array."""

    buffer: Buffer
    indices: tuple[Expr, ...]


@dataclass(frozen=True, eq=False)
class Registers:
    """Consecutive elements of a LOCAL array, from `offset` on; how many, the instruction says."""

    buffer: Buffer
    offset: Expr


@dataclass(frozen=True, eq=False)
class VectorCopy(Stmt):
    """dst[e] = src[e] for `elements` consecutive elements of the last axis, as one access of 2, 4, 8 or 16 bytes.

    One side is a LOCAL array, the other GLOBAL or SHARED memory whose address is a multiple of the access. Both have one dtype.
    """

    dst: Address
    src: Address
    elements: int

    @property
    def size_bytes(self) -> int:
        return self.dst.buffer.dtype.storage_bits * self.elements // 8


@dataclass(frozen=True, eq=False)
class AsyncRegion(Stmt):
    """Copies from global to shared memory that need not be complete before the wait for their group; `use_async_copies` replaces it."""

    body: Stmt


@dataclass(frozen=True, eq=False)
class InstructionCall(Stmt):
    """Executes an instruction; `operands` match `instruction.operands` one to one: Registers, Address, Expr for values, int for immediates."""

    instruction: Instruction
    operands: tuple[Registers | Address | Expr | int, ...]
