"""Conversions that `cvt` does on packed elements, and to tf32.

Two floats become one register of fp16 or bf16; four floats become one register of fp8 or come from two of fp16. Values beyond the range of an fp8 type
become its greatest finite value (.satfinite is the only form there is).
Source: PTX ISA, "cvt" and "cvt.pack"; of the two sources of a packed conversion the first goes to the upper half.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype
from tilewright.errors import CompilerBug
from tilewright.intrin.nvidia.inline_asm import constrained, inline_asm
from tilewright.ir.instruction import Access, Array, Instruction, InstructionScope, RegisterOperand, SimulatedCall
from tilewright.target.nvidia import Feature

_FP8_TYPES = {"float8_e4m3fn": "e4m3x2", "float8_e5m2": "e5m2x2"}


class Convert(Instruction):
    """Operands: registers `dst`, registers `src`. A function of registers."""

    scope = InstructionScope.THREAD

    def __init__(self, source: DType, target: DType, count: int, feature: Feature | None, template: str) -> None:
        self.name = f"cvt.{target!s}x{count}.{source!s}x{count}"
        self.feature = feature
        self.template = template
        self._dst, self._src = RegisterOperand("dst", target, count, Access.WRITE), RegisterOperand("src", source, count, Access.READ)
        self.operands = (self._dst, self._src)

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        return inline_asm(self.template, constrained(self._dst, operands["dst"]), constrained(self._src, operands["src"]), is_volatile=False)

    def simulate(self, call: SimulatedCall) -> None:
        values, target = call.registers("src"), self._dst.dtype
        if target.bits == 8:
            values = np.clip(values, np.float32(target.minimum), np.float32(target.maximum))  # keeps NaN
        with np.errstate(over="ignore"):
            call.set_registers("dst", values.astype(target.numpy))


def nearest_tf32(values: Array) -> Array:
    """float32 numbers as the nearest tf32 ones, of two equally near ones the one farther from zero."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(values), np.float32(np.nan), rounded)


class RoundToTf32(Convert):
    """The nearest tf32 number."""

    def simulate(self, call: SimulatedCall) -> None:
        call.set_registers("dst", nearest_tf32(call.registers("src")))


@cache
def convert(source: DType, target: DType) -> Convert:
    """The packed conversion from `source` to `target`: float32 to fp16, bf16, fp8 or tf32, tf32 to rounded tf32, fp8 to fp16. One object for equal arguments.

    Raises CompilerBug for other pairs.
    """
    if source is dtypes.float32 and target is dtypes.float16:
        return Convert(source, target, 2, None, "cvt.rn.f16x2.f32 %0, %2, %1;")
    if source is dtypes.float32 and target is dtypes.bfloat16:
        return Convert(source, target, 2, Feature.MMA, "cvt.rn.bf16x2.f32 %0, %2, %1;")
    if source in (dtypes.float32, dtypes.tfloat32) and target is dtypes.tfloat32:  # what a program calls tf32 is any float32 in memory
        return RoundToTf32(source, target, 1, Feature.MMA, "{ .reg .b32 rounded; cvt.rna.tf32.f32 rounded, %1; mov.b32 %0, rounded; }")
    if source is dtypes.float32 and target in _FP8_TYPES:
        kind = _FP8_TYPES[str(target)]
        halves = f"cvt.rn.satfinite.{kind}.f32 low, %2, %1; cvt.rn.satfinite.{kind}.f32 high, %4, %3;"
        return Convert(source, target, 4, Feature.FP8_CONVERT, "{ .reg .b16 low, high; " + halves + " mov.b32 %0, {low, high}; }")
    if source in _FP8_TYPES and target is dtypes.float16:
        kind = _FP8_TYPES[str(source)]
        halves = f"cvt.rn.f16x2.{kind} %0, low; cvt.rn.f16x2.{kind} %1, high;"
        return Convert(source, target, 4, Feature.FP8_CONVERT, "{ .reg .b16 low, high; mov.b32 {low, high}, %2; " + halves + " }")
    raise CompilerBug(f"no packed conversion from {source!s} to {target!s}")


def all_conversions() -> tuple[Convert, ...]:
    """The whole catalogue."""
    targets = (dtypes.float16, dtypes.bfloat16, dtypes.tfloat32, *map(as_dtype, _FP8_TYPES))
    rounding = convert(dtypes.tfloat32, dtypes.tfloat32)
    return (rounding, *(convert(dtypes.float32, target) for target in targets), *(convert(as_dtype(name), dtypes.float16) for name in _FP8_TYPES))
