"""Inline PTX as a C statement: operands are numbered in the order outputs, read-write, inputs, and named by the letter of their register class.

Source: NVIDIA "Inline PTX Assembly in CUDA", sections on constraints and on side effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from tilewright.dtypes import DType
from tilewright.ir.instruction import Access, RegisterOperand


class RegisterClass(Enum):
    """The letter of a constraint."""

    BITS_32 = "r"
    BITS_64 = "l"
    FLOAT_32 = "f"
    FLOAT_64 = "d"


SHARED_ADDRESS = RegisterClass.BITS_32
GLOBAL_ADDRESS = RegisterClass.BITS_64


def register_class(dtype: DType) -> RegisterClass:
    """The machine register that holds elements of a dtype: those narrower than 32 bits are packed."""
    if dtype.is_float and dtype.bits >= 32:
        return RegisterClass.FLOAT_64 if dtype.bits == 64 else RegisterClass.FLOAT_32
    return RegisterClass.BITS_64 if dtype.bits == 64 else RegisterClass.BITS_32


def constrained(operand: RegisterOperand, registers: Sequence[str]) -> list[str]:
    """`"+f"(x)` for each machine register of an operand."""
    prefix = {Access.READ: "", Access.WRITE: "=", Access.READ_WRITE: "+"}[operand.access]
    letter = register_class(operand.dtype).value
    return [f'"{prefix}{letter}"({register})' for register in registers]


def constrained_value(kind: RegisterClass, text: str) -> str:
    """`"r"(x)`: an input."""
    return f'"{kind.value}"({text})'


def numbered(count: int, first: int = 0) -> str:
    """`{%4, %5}`: a vector of operands; a single one stands in braces as well."""
    return "{" + ", ".join(f"%{first + number}" for number in range(count)) + "}"


def inline_asm(template: str, outputs: Sequence[str] = (), inputs: Sequence[str] = (), *, touches_memory: bool = False, is_volatile: bool = True) -> str:
    """One C statement without its semicolon.

    `is_volatile`: must happen where it stands, as often as it stands there; False for a function of registers that every thread computes by itself.
    `touches_memory`: loads and stores of the C program must not move across it.
    """
    tail = [", ".join(outputs), ", ".join(inputs), '"memory"' if touches_memory else ""]
    while tail and not tail[-1]:
        tail.pop()
    operands = "".join(f" : {part}" if part else " :" for part in tail)
    return f'asm{" volatile" if is_volatile else ""}("{template}"{operands})'
