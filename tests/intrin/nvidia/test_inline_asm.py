"""Inline PTX as C text."""

from __future__ import annotations

from tilewright import dtypes
from tilewright.intrin.nvidia.inline_asm import RegisterClass, constrained, inline_asm, numbered, register_class
from tilewright.ir.instruction import Access, RegisterOperand


def test_only_the_parts_that_are_needed_are_written() -> None:
    assert inline_asm("nop;") == 'asm volatile("nop;")'
    assert inline_asm("nop;", touches_memory=True) == 'asm volatile("nop;" : : : "memory")'
    assert inline_asm("f %0, %1;", ['"=r"(x)'], ['"r"(y)'], is_volatile=False) == 'asm("f %0, %1;" : "=r"(x) : "r"(y))'
    assert numbered(2, 3) == "{%3, %4}"


def test_constraints_follow_dtypes_and_access() -> None:
    assert constrained(RegisterOperand("c", dtypes.float32, 2, Access.READ_WRITE), ["x", "y"]) == ['"+f"(x)', '"+f"(y)']
    assert constrained(RegisterOperand("d", dtypes.float16, 2, Access.WRITE), ["x"]) == ['"=r"(x)']
    assert [register_class(d) for d in (dtypes.int4, dtypes.tfloat32, dtypes.float64, dtypes.int64)] == [
        RegisterClass.BITS_32,
        RegisterClass.FLOAT_32,
        RegisterClass.FLOAT_64,
        RegisterClass.BITS_64,
    ]
