"""Register layouts of tensor-core instructions, as index formulas (PTX ISA, matrix and register fragment sections) and as layouts.

Each formula gives (row, column) of register `reg` of `lane` in `warp`; each layout says the same in digits. `test_match.py` checks them
against each other on every point.
"""

from __future__ import annotations

from tilewright.layout import Axis, Layout

LANES = Axis.of("lane", 32)


def mma_a_16x16(reg: int, lane: int) -> tuple[int, int]:
    """mma.m16n8k16 A (m, k), 16-bit: a0..a7."""
    group, in_group = lane >> 2, lane % 4
    row = group if reg < 2 or 4 <= reg < 6 else group + 8
    column = in_group * 2 + (reg & 1) + (8 if reg >= 4 else 0)
    return row, column


def mma_b_16x8(reg: int, lane: int) -> tuple[int, int]:
    """mma.m16n8k16 B (k, n), 16-bit: b0..b3."""
    group, in_group = lane >> 2, lane % 4
    return in_group * 2 + (reg & 1) + (8 if reg >= 2 else 0), group


def mma_c_16x8(reg: int, lane: int) -> tuple[int, int]:
    """mma.m16n8k16 C and D (m, n), 32-bit: c0..c3."""
    group, in_group = lane >> 2, lane % 4
    return group + (8 if reg >= 2 else 0), in_group * 2 + (reg & 1)


def wgmma_d(reg: int, lane: int, warp: int) -> tuple[int, int]:
    """wgmma.m64nNk16 D (m, n): d0..d(N/2 - 1) of the four warps."""
    row = warp % 4 * 16 + lane // 4 + 8 * (reg // 2 % 2)
    column = reg // 4 * 8 + lane % 4 * 2 + reg % 2
    return row, column


_GROUP_M = [{"m": 1}, {"m": 2}, {"m": 4}]

MMA_A = Layout.from_basis(
    (Axis.of("reg", 8), LANES),
    (Axis.of("m", 16), Axis.of("k", 16)),
    {"reg": [{"k": 1}, {"m": 8}, {"k": 8}], "lane": [{"k": 2}, {"k": 4}, *_GROUP_M]},
)
MMA_B = Layout.from_basis(
    (Axis.of("reg", 4), LANES),
    (Axis.of("k", 16), Axis.of("n", 8)),
    {"reg": [{"k": 1}, {"k": 8}], "lane": [{"k": 2}, {"k": 4}, {"n": 1}, {"n": 2}, {"n": 4}]},
)
MMA_C = Layout.from_basis(
    (Axis.of("reg", 4), LANES),
    (Axis.of("m", 16), Axis.of("n", 8)),
    {"reg": [{"n": 1}, {"m": 8}], "lane": [{"n": 2}, {"n": 4}, *_GROUP_M]},
)
_WARPGROUP = Axis.of("warp", 4)
WGMMA_D_N8 = Layout.from_basis(
    (Axis.of("reg", 4), LANES, _WARPGROUP),
    (Axis.of("m", 64), Axis.of("n", 8)),
    {"reg": [{"n": 1}, {"m": 8}], "lane": [{"n": 2}, {"n": 4}, *_GROUP_M], "warp": [{"m": 16}, {"m": 32}]},
)
WGMMA_A = Layout.from_basis(
    (Axis.of("reg", 8), LANES, _WARPGROUP),
    (Axis.of("m", 64), Axis.of("k", 16)),
    {"reg": [{"k": 1}, {"m": 8}, {"k": 8}], "lane": [{"k": 2}, {"k": 4}, *_GROUP_M], "warp": [{"m": 16}, {"m": 32}]},
)


def _repeated(fragment: Layout, axis: str, owner: str, repeats: int) -> Layout:
    """The fragment `repeats` times along tile axis `axis`, counted by input `owner`; axes stay in the fragment's order."""
    product = Layout.identity((Axis.of(axis, repeats),)).rename(ins={axis: owner}) * fragment
    names = [name for name in ("reg", "lane", "warp") if product.has_input(name)]
    return product.reorder(ins=names, outs=[out.name for out in fragment.outs])


def wgmma_accumulator(n: int) -> Layout:
    """The m64nN accumulator: the n8 piece repeated n / 8 times in registers."""
    return _repeated(WGMMA_D_N8, "n", "reg", n // 8)


def warps_along_m(fragment: Layout, warps: int) -> Layout:
    """The fragment repeated over warps, each with its own rows."""
    return _repeated(fragment, "m", "warp", warps)


def registers_along(fragment: Layout, axis: str, repeats: int) -> Layout:
    """The fragment repeated in registers along one axis."""
    return _repeated(fragment, axis, "reg", repeats)
