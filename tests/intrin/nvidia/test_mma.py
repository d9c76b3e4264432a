"""mma.sync: operand layouts against the formulas of the PTX ISA, products against numpy, text against the compiler."""

from __future__ import annotations

import numpy as np
import pytest

from tests.intrin.nvidia.compiled_text import TARGETS, compile_for
from tests.intrin.nvidia.simulated_call import CallOnArrays
from tilewright import dtypes
from tilewright.dtypes import DType, as_dtype
from tilewright.intrin.nvidia.mma import Mma, all_mma_atoms, mma_atoms
from tilewright.ir.instruction import Array
from tilewright.layout import Layout
from tilewright.target.nvidia import SM_80, SM_89, SM_90, NvidiaTarget

ATOMS = {atom.name: atom for atom in all_mma_atoms()}


def _by_lane(lane: int) -> tuple[int, int]:
    return lane >> 2, lane % 4


# The formulas of the PTX ISA, figure by figure: i is the element's number among a0, a1, … of its lane.
def a_16_bit_k8(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group + (8 if i >= 2 else 0), member * 2 + (i & 1)


def a_16_bit_k16(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group if i in (0, 1, 4, 5) else group + 8, member * 2 + (i & 1) + (8 if i >= 4 else 0)


def a_tf32_k4(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group + 8 * (i == 1), member


def a_tf32_k8(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group + 8 * (i in (1, 3)), member + 4 * (i in (2, 3))


def a_8_bit_k16(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group if i < 4 else group + 8, member * 4 + (i & 3)


def a_8_bit_k32(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group if i < 4 or 8 <= i < 12 else group + 8, member * 4 + (i & 3) + (16 if i >= 8 else 0)


def a_4_bit_k32(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group if i < 8 else group + 8, member * 8 + (i & 7)


def a_4_bit_k64(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group if i < 8 or 16 <= i < 24 else group + 8, member * 8 + (i & 7) + (32 if i >= 16 else 0)


def a_fp64_m8k4(i: int, lane: int) -> tuple[int, int]:
    return _by_lane(lane)


def a_fp64_k4(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group + 8 * (i == 1), member


def a_fp64_k8(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group + 8 * (i % 2), member + 4 * (i >= 2)


def a_fp64_k16(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return (group, i * 2 + member) if i % 2 == 0 else (group + 8, i * 2 - 2 + member)


def b_16_bit(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return member * 2 + (i & 1) + (8 if i >= 2 else 0), group


def b_32_or_64_bit(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return member + 4 * i, group


def b_8_bit(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return member * 4 + (i & 3) + (16 if i >= 4 else 0), group


def b_4_bit(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return member * 8 + (i & 7) + (32 if i >= 8 else 0), group


def c_m16(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group if i < 2 else group + 8, member * 2 + (i & 1)


def c_m8(i: int, lane: int) -> tuple[int, int]:
    group, member = _by_lane(lane)
    return group, member * 2 + (i & 1)


A_FORMULAS = {
    (16, 8): a_16_bit_k8,
    (16, 16): a_16_bit_k16,
    (32, 4): a_tf32_k4,
    (32, 8): a_tf32_k8,
    (8, 16): a_8_bit_k16,
    (8, 32): a_8_bit_k32,
    (4, 32): a_4_bit_k32,
    (4, 64): a_4_bit_k64,
    (64, 4): a_fp64_k4,
    (64, 8): a_fp64_k8,
    (64, 16): a_fp64_k16,
}
B_FORMULAS = {16: b_16_bit, 32: b_32_or_64_bit, 64: b_32_or_64_bit, 8: b_8_bit, 4: b_4_bit}


def _formula_table(formula: object, layout: Layout) -> list[list[list[int]]]:
    return [[list(formula(i, lane)) for lane in range(32)] for i in range(layout.in_axis("reg").extent)]  # type: ignore[operator]


@pytest.mark.parametrize("name", ATOMS)
def test_operand_layouts_are_those_of_the_instruction_set(name: str) -> None:
    atom = ATOMS[name]
    a_formula = a_fp64_m8k4 if atom.m == 8 else A_FORMULAS[atom.a_dtype.bits, atom.k]
    for formula, layout in (
        (a_formula, atom.a_layout),
        (B_FORMULAS[atom.b_dtype.bits], atom.b_layout),
        (c_m8 if atom.m == 8 else c_m16, atom.c_layout),
    ):
        assert layout.table().tolist() == _formula_table(formula, layout)
        assert layout.is_bijective


def random_elements(random: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Array:
    if dtype.is_integer:
        low, high = (int(dtype.minimum), int(dtype.maximum)) if dtype.bits <= 8 else (-(1 << 31), (1 << 31) - 1)
        return random.integers(low, high + 1, shape).astype(dtype.numpy)
    return random.standard_normal(shape).astype(np.float32).astype(dtype.numpy)


def distributed(tiles: Array, layout: Layout) -> Array:
    """(warps, rows, columns) as (threads, registers)."""
    table = layout.table()
    return np.ascontiguousarray(tiles[:, table[..., 0], table[..., 1]].swapaxes(1, 2)).reshape(len(tiles) * 32, -1)


def as_tf32(values: Array) -> Array:
    return (values.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


@pytest.mark.parametrize("name", ATOMS)
def test_a_product_of_distributed_tiles_is_that_of_numpy(name: str) -> None:
    atom, random, warps = ATOMS[name], np.random.default_rng(len(name)), 3
    a = random_elements(random, atom.a_dtype, (warps, atom.m, atom.k))
    b = random_elements(random, atom.b_dtype, (warps, atom.k, atom.n))
    c = random_elements(random, atom.c_dtype, (warps, atom.m, atom.n))
    registers = {"a": distributed(a, atom.a_layout), "b": distributed(b, atom.b_layout), "c": distributed(c, atom.c_layout)}
    call = CallOnArrays(32 * warps, registers)
    atom.simulate(call)
    if atom.a_dtype is dtypes.tfloat32:
        a, b = as_tf32(a), as_tf32(b)
    exact = np.int64 if atom.c_dtype.is_integer else np.float64
    expected = (a.astype(exact) @ b.astype(exact) + c.astype(exact)).astype(atom.c_dtype.numpy)
    np.testing.assert_array_equal(call.registers("c"), distributed(expected, atom.c_layout))


def _shapes(a: str, b: str, c: str, target: NvidiaTarget) -> list[tuple[int, int, int]]:
    return [(atom.m, atom.n, atom.k) for atom in mma_atoms(as_dtype(a), as_dtype(b), as_dtype(c), target)]


def test_the_catalogue_is_sorted_by_depth_and_knows_targets() -> None:
    assert _shapes("float16", "float16", "float16", SM_80) == [(16, 8, 16), (16, 8, 8)]
    assert _shapes("tfloat32", "tfloat32", "float32", SM_80) == [(16, 8, 8), (16, 8, 4)]
    assert _shapes("int8", "uint8", "int32", SM_80) == [(16, 8, 32), (16, 8, 16)]
    assert _shapes("float64", "float64", "float64", SM_80) == [(8, 8, 4)]
    assert _shapes("float64", "float64", "float64", SM_90) == [(16, 8, 16), (16, 8, 8), (16, 8, 4), (8, 8, 4)]
    assert _shapes("float8_e4m3fn", "float8_e5m2", "float32", SM_80) == []
    assert _shapes("float8_e4m3fn", "float8_e5m2", "float32", SM_89) == [(16, 8, 32)]
    assert _shapes("float32", "float32", "float32", SM_90) == []
    assert _shapes("bfloat16", "bfloat16", "float16", SM_90) == []


def test_equal_instructions_are_one_object() -> None:
    half, single = dtypes.float16, dtypes.float32
    assert mma_atoms(half, half, single, SM_80)[0] is mma_atoms(half, half, single, SM_90)[0]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_the_text_compiles(target: NvidiaTarget) -> None:
    atoms: list[Mma] = [atom for atom in ATOMS.values() if target.has(atom.feature)]
    assert compile_for(target, atoms)
