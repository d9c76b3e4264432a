"""One hardware instruction as the compiler sees it (floor 2); concrete ones are `tilewright.intrin`, one file each.

An instruction is data plus two methods: the text that a C-family printer emits, and the meaning that the simulator executes. A statement
`InstructionCall` (ir/thread.py) applies it to registers, addresses and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Scope
from tilewright.target.nvidia import Feature

Array = np.ndarray[Any, np.dtype[Any]]


class Access(Enum):
    """What an instruction does with an operand."""

    READ = "read"
    WRITE = "write"
    READ_WRITE = "read-write"


class InstructionScope(Enum):
    """Who executes the instruction together. A WARP instruction must be reached by all 32 lanes at once."""

    THREAD = "thread"
    WARP = "warp"


@dataclass(frozen=True, slots=True)
class RegisterOperand:
    """`count` consecutive elements of a per-thread array. Elements narrower than 32 bits are packed, low element in the low bits."""

    name: str
    dtype: DType
    count: int
    access: Access

    @property
    def register_bits(self) -> int:
        """Width of one machine register: 64 for 64-bit elements, else 32."""
        return max(32, self.dtype.bits)

    @property
    def num_registers(self) -> int:
        return self.dtype.bits * self.count // self.register_bits


@dataclass(frozen=True, slots=True)
class AddressOperand:
    """The address of `size_bytes` consecutive bytes per thread in SHARED or GLOBAL memory, aligned to that size."""

    name: str
    scope: Scope
    size_bytes: int
    access: Access


@dataclass(frozen=True, slots=True)
class ValueOperand:
    """A scalar that each thread gives."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class ImmediateOperand:
    """An int that is part of the instruction's text."""

    name: str


Operand = RegisterOperand | AddressOperand | ValueOperand | ImmediateOperand


class SimulatedCall(Protocol):
    """What `Instruction.simulate` may ask of the simulator. Arrays have one row per executing thread; a WARP instruction sees whole warps, 32
    rows each, in the order of lanes."""

    @property
    def num_threads(self) -> int:
        """Rows."""
        ...

    def registers(self, name: str) -> Array:
        """(threads, count) elements of a register operand, in its numpy dtype (sub-byte types one byte each)."""
        ...

    def set_registers(self, name: str, values: Array) -> None:
        """Writes (threads, count) elements of a register operand."""
        ...

    def value(self, name: str) -> Array:
        """(threads,) of a value operand."""
        ...

    def immediate(self, name: str) -> int:
        """The int of an immediate operand."""
        ...

    def read(self, name: str, active: Array | None = None) -> Array:
        """(threads, size_bytes) uint8 at an address operand; rows where `active` (bools, one per thread) is false access nothing and are zeros."""
        ...

    def write(self, name: str, data: Array, active: Array | None = None) -> None:
        """Writes (threads, size_bytes) uint8 at an address operand; threads where `active` is false write nothing."""
        ...

    def copy_later(self, destination: str, source: str, valid_bytes: Array | None = None) -> None:
        """Starts an asynchronous copy between two address operands; bytes from `valid_bytes` (per thread) on become zero, and are not read. It lands at
        any time up to the wait for its group."""
        ...

    def commit_group(self) -> None:
        """Each thread closes its group of asynchronous copies."""
        ...

    def wait_group(self, pending: int) -> None:
        """Each thread waits until at most `pending` of its own youngest groups are under way."""
        ...


class Instruction:
    """A hardware instruction.

    name      unique, `mma.m16n8k16.f32.f16`.
    scope     who executes it together.
    feature   what a target must have, None for what every NVIDIA target has.
    operands  in the order in which `InstructionCall.operands` gives them.
    """

    name: str
    scope: InstructionScope
    feature: Feature | None
    operands: tuple[Operand, ...]

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        """One C statement without the semicolon. `operands[name]` holds C text:

        registers: one lvalue per machine register (`unsigned` for packed and integer elements, `float`, `double`), asm constraints "r", "f", "d";
        an address: one expression, a 32-bit shared-space address ("r") or a 64-bit pointer ("l"); a value: one expression; an immediate: digits.
        """
        raise CompilerBug(f"{self.name} has no CUDA text")

    def simulate(self, call: SimulatedCall) -> None:
        """The meaning, over all executing threads at once. Source: the PTX ISA section named in the file of the instruction."""
        raise CompilerBug(f"{self.name} has no simulated meaning")

    def __repr__(self) -> str:
        return f"instruction {self.name}"
