"""`mma.sync`: d = a @ b + c on tensor cores, one tile per warp, with row-major a (m, k) and column-major b (k, n).

All shapes share one pattern. A lane is 4 * group + member. A 32-bit register (64 for fp64) packs `pack` neighbours along k; member m holds k from
pack * m on; group g holds row g of a and column g of b. Further registers: a has rows from 8 on, then k from 4 * pack on; b has k from 4 * pack on;
c holds columns 2 * member + {0, 1} of row g, then of row g + 8.
Source: PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions", the sections "Matrix Fragments for mma.m16n8k*" and "mma.m8n8k4 with .f64".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype
from tilewright.intrin.nvidia.inline_asm import RegisterClass, constrained, constrained_value, inline_asm, numbered
from tilewright.ir.instruction import Access, Array, Instruction, InstructionScope, RegisterOperand, SimulatedCall
from tilewright.layout.digits import LANE, REG, Axis, log2_exact
from tilewright.layout.layout import Layout
from tilewright.target.nvidia import Feature, NvidiaTarget

_PTX_TYPES = {
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "tfloat32": "tf32",
    "float64": "f64",
    "int8": "s8",
    "uint8": "u8",
    "int4": "s4",
    "uint4": "u4",
    "int32": "s32",
    "float8_e4m3fn": "e4m3",
    "float8_e5m2": "e5m2",
}
_LANES = Axis.of(LANE, 32)
_GROUP_BITS = (1, 2, 4)  # steps of lane digits 2, 3, 4
_TF32_DROPPED_BITS = 13  # the mantissa bits of a float32 that tf32 has not


class Mma(Instruction):
    """One shape for one choice of dtypes. Operands: c (read and written), a, b.

    m, n, k            extents of the tile.
    a_layout           (reg, lane) -> (m, k).
    b_layout           (reg, lane) -> (k, n).
    c_layout           (reg, lane) -> (m, n).
    Products of integers wrap modulo 2**32. tf32 operands are float32 registers whose low 13 bits are not read.
    """

    scope = InstructionScope.WARP
    feature: Feature

    def __init__(self, m: int, n: int, k: int, a_dtype: DType, b_dtype: DType, c_dtype: DType, feature: Feature) -> None:
        self.m, self.n, self.k = m, n, k
        self.a_dtype, self.b_dtype, self.c_dtype = a_dtype, b_dtype, c_dtype
        self.feature = feature
        self.a_layout, self.b_layout, self.c_layout = _a_layout(m, k, a_dtype.bits), _b_layout(k, n, b_dtype.bits), _c_layout(m, n)
        a, b, c = (_PTX_TYPES[str(dtype)] for dtype in (a_dtype, b_dtype, c_dtype))
        self.name = f"mma.m{m}n{n}k{k}.{c}.{a}.{b}.{c}"
        self._c = RegisterOperand("c", c_dtype, self.c_layout.in_axis(REG).extent, Access.READ_WRITE)
        self._a = RegisterOperand("a", a_dtype, self.a_layout.in_axis(REG).extent, Access.READ)
        self._b = RegisterOperand("b", b_dtype, self.b_layout.in_axis(REG).extent, Access.READ)
        self.operands = (self._c, self._a, self._b)

    def cuda(self, operands: dict[str, tuple[str, ...]]) -> str:
        num_c, num_a, num_b = (operand.num_registers for operand in (self._c, self._a, self._b))
        a, b, c = (_PTX_TYPES[str(dtype)] for dtype in (self.a_dtype, self.b_dtype, self.c_dtype))
        registers = f"{numbered(num_c)}, {numbered(num_a, num_c)}, {numbered(num_b, num_c + num_a)}, {numbered(num_c)}"
        text = f"mma.sync.aligned.m{self.m}n{self.n}k{self.k}.row.col.{c}.{a}.{b}.{c} {registers};"
        return inline_asm(text, constrained(self._c, operands["c"]), [*_inputs(self._a, operands["a"]), *_inputs(self._b, operands["b"])])

    def simulate(self, call: SimulatedCall) -> None:
        """Products are exact and summed with c in float64 (int64), then rounded once to the type of c; the hardware rounds more often."""
        is_float = self.c_dtype.is_float
        exact = np.float64 if is_float else np.int64
        a = self._tile(call.registers("a"), self.a_layout, self.a_dtype).astype(exact)
        b = self._tile(call.registers("b"), self.b_layout, self.b_dtype).astype(exact)
        c_registers = call.registers("c")
        with np.errstate(all="ignore"):
            total = a @ b + self._tile(c_registers, self.c_layout, self.c_dtype).astype(exact)
            rounded = total.astype(self.c_dtype.numpy)
        rows, columns = self._places[self.c_layout]
        by_lane = rounded[:, rows, columns].swapaxes(1, 2)  # (warps, lane, reg)
        call.set_registers("c", np.ascontiguousarray(by_lane).reshape(c_registers.shape))

    @cached_property
    def _places(self) -> dict[Layout, tuple[Array, Array]]:
        """Row and column of each (reg, lane) of each operand."""
        tables = {layout: layout.table() for layout in (self.a_layout, self.b_layout, self.c_layout)}
        return {layout: (table[..., 0], table[..., 1]) for layout, table in tables.items()}

    def _tile(self, registers: Array, layout: Layout, dtype: DType) -> Array:
        """(warps * 32, count) registers as (warps, rows, columns)."""
        if dtype is dtypes.tfloat32:
            registers = (np.ascontiguousarray(registers).view(np.uint32) >> _TF32_DROPPED_BITS << _TF32_DROPPED_BITS).view(np.float32)
        rows, columns = self._places[layout]
        tile = np.zeros((len(registers) // 32, *(axis.extent for axis in layout.outs)), registers.dtype)
        tile[:, rows, columns] = registers.reshape(-1, 32, registers.shape[1]).swapaxes(1, 2)
        return tile


def _inputs(operand: RegisterOperand, registers: Sequence[str]) -> list[str]:
    """tf32 operands are floats in C and plain 32-bit registers for mma."""
    if operand.dtype is dtypes.tfloat32:
        return [constrained_value(RegisterClass.BITS_32, f"__float_as_uint({register})") for register in registers]
    return constrained(operand, registers)


def _pack_digits(bits: int) -> int:
    """log2 of the elements that share a machine register."""
    return log2_exact(max(1, 32 // bits))


def _k_steps(k: int, bits: int) -> tuple[list[int], list[int], list[int]]:
    """Steps along k of the packed digits, of the lane digits 0 and 1, and of the remaining registers."""
    pack = _pack_digits(bits)
    steps = [1 << digit for digit in range(log2_exact(k))]
    return steps[:pack], steps[pack : pack + 2], steps[pack + 2 :]


def _a_layout(m: int, k: int, bits: int) -> Layout:
    packed, members, further = _k_steps(k, bits)
    registers = [*({"k": step} for step in packed), *([{"m": 8}] if m == 16 else []), *({"k": step} for step in further)]
    lanes = [*({"k": step} for step in members), *({"m": step} for step in _GROUP_BITS)]
    return Layout.from_basis((Axis.of(REG, 1 << len(registers)), _LANES), (Axis.of("m", m), Axis.of("k", k)), {REG: registers, LANE: lanes})


def _b_layout(k: int, n: int, bits: int) -> Layout:
    packed, members, further = _k_steps(k, bits)
    registers = [{"k": step} for step in (*packed, *further)]
    lanes = [*({"k": step} for step in members), *({"n": step} for step in _GROUP_BITS)]
    return Layout.from_basis((Axis.of(REG, 1 << len(registers)), _LANES), (Axis.of("k", k), Axis.of("n", n)), {REG: registers, LANE: lanes})


def _c_layout(m: int, n: int) -> Layout:
    registers = [{"n": 1}, *([{"m": 8}] if m == 16 else [])]
    lanes = [{"n": 2}, {"n": 4}, *({"m": step} for step in _GROUP_BITS)]
    return Layout.from_basis((Axis.of(REG, 1 << len(registers)), _LANES), (Axis.of("m", m), Axis.of("n", n)), {REG: registers, LANE: lanes})


@dataclass(frozen=True, slots=True)
class _Family:
    """Dtypes that go together and the shapes (m, n, k) there are for them, widest k first. `operands` may be mixed."""

    operands: tuple[str, ...]
    accumulators: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    feature: Feature = Feature.MMA


# Source: PTX ISA, table "MMA instructions: data types and shapes" of "Warp-level matrix shape"; sparse and sub-k4 shapes left out.
_FAMILIES = (
    _Family(("float16",), ("float32", "float16"), ((16, 8, 16), (16, 8, 8))),
    _Family(("bfloat16",), ("float32",), ((16, 8, 16), (16, 8, 8))),
    _Family(("tfloat32",), ("float32",), ((16, 8, 8), (16, 8, 4))),
    _Family(("int8", "uint8"), ("int32",), ((16, 8, 32), (16, 8, 16))),
    _Family(("int4", "uint4"), ("int32",), ((16, 8, 64), (16, 8, 32))),
    _Family(("float8_e4m3fn", "float8_e5m2"), ("float32",), ((16, 8, 32),), Feature.MMA_FP8),
    _Family(("float64",), ("float64",), ((16, 8, 16), (16, 8, 8), (16, 8, 4)), Feature.MMA_FP64_WIDE),
    _Family(("float64",), ("float64",), ((8, 8, 4),)),
)


@cache
def mma(m: int, n: int, k: int, a_dtype: DType, b_dtype: DType, c_dtype: DType, feature: Feature = Feature.MMA) -> Mma:
    """The instruction of one shape: one object for equal arguments."""
    return Mma(m, n, k, a_dtype, b_dtype, c_dtype, feature)


@cache
def mma_atoms(a_dtype: DType, b_dtype: DType, c_dtype: DType, target: NvidiaTarget | None = None) -> tuple[Mma, ...]:
    """The instructions for these dtypes on a target (on any, where None), widest k first; () where there are none."""
    return tuple(
        mma(*shape, a_dtype, b_dtype, c_dtype, family.feature)
        for family in _FAMILIES
        if a_dtype in family.operands and b_dtype in family.operands and c_dtype in family.accumulators
        if target is None or target.has(family.feature)
        for shape in family.shapes
    )


def all_mma_atoms() -> tuple[Mma, ...]:
    """The whole catalogue."""
    return tuple(
        mma(*shape, as_dtype(a), as_dtype(b), as_dtype(c), family.feature)
        for family in _FAMILIES
        for a in family.operands
        for b in family.operands
        for c in family.accumulators
        for shape in family.shapes
    )
