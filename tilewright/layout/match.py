"""Which hardware access fits a layout (floor 1): vectors, ldmatrix/stmatrix, instruction operands, shared-memory descriptors.

All questions are about an access (reg, lane, warp) -> (offset,), made by `memory.compose(fragment)`, or about one fragment or memory
layout. Register digits may always be renumbered, so matchers report the register order they used; apply it with `Layout.reorder_digits`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.layout.digits import LANE, REG, Axis, log2_exact
from tilewright.layout.embedding import Embedding, MemoryLayout
from tilewright.layout.gf2 import remap
from tilewright.layout.layout import Layout
from tilewright.layout.swizzle import WIDEST_FIRST, SwizzleMode, swizzle_atom

ROW_BITS = 128  # one row of an 8 x 8 matrix of ldmatrix and stmatrix, and the widest vector of one lane
_REGISTER_BITS = 32


@dataclass(frozen=True, slots=True)
class VectorRun:
    """`elements` contiguous, aligned elements per thread; `digits` are the register digits that step through them, low first."""

    elements: int
    digits: tuple[int, ...]


def _aligned_digits(embedding: Embedding) -> int:
    """The largest c such that digits 0..c-1 have strides 1, 2, 4, … and every other address contribution is a multiple of 2^c."""
    count = 0
    for radix, stride in zip(embedding.digits, embedding.strides_elements, strict=True):
        if radix != 2 or stride != 1 << count:
            break
        count += 1
    while count and any(value % (1 << count) for value in (embedding.base_elements, *embedding.strides_elements[count:])):
        count -= 1
    return count


def vector_run(access: Layout, embedding: Embedding | None = None, axis: str = REG, limit_elements: int | None = None) -> VectorRun:
    """The longest run of register digits whose columns are offset digits 0, 1, 2, … which no other input digit touches (so aligned)."""
    aligned = _aligned_digits(embedding or Embedding.natural(access.outs[0]))
    if limit_elements is not None:
        aligned = min(aligned, log2_exact(limit_elements))
    registers = access.columns_of(axis)
    digits: list[int] = []
    while len(digits) < aligned:
        bit = 1 << len(digits)
        if bit not in registers or sum(1 for column in access.columns if column & bit) != 1:
            break
        digits.append(registers.index(bit))
    return VectorRun(1 << len(digits), tuple(digits))


def vector_elements(access: Layout, embedding: Embedding | None = None, axis: str = REG, limit_elements: int | None = None) -> int:
    """Elements per vector with registers numbered as they are: the part of `vector_run` that is already in order."""
    return common_run(vector_run(access, embedding, axis, limit_elements).digits, range(len(access.in_axis(axis).digits)))


def common_run(first: tuple[int, ...], second: tuple[int, ...] | range) -> int:
    """Elements that two runs of register digits share: the vector of a copy is the common run of its source and its destination."""
    count = 0
    for mine, theirs in zip(first, second, strict=False):
        if mine != theirs:
            break
        count += 1
    return 1 << count


@dataclass(frozen=True, slots=True)
class MatrixMatch:
    """How ldmatrix or stmatrix serves an access.

    `matrices` (1, 2, 4) is the .x1, .x2, .x4 qualifier. `register_order` puts one instruction's registers lowest.
    `row_addresses` maps (reg, lane, warp) -> (offset,): "reg" counts instructions, lane 8 j + r gives the address of row r of matrix j.
    """

    matrices: int
    is_transposed: bool
    register_order: tuple[int, ...]
    row_addresses: Layout


def match_matrix_access(access: Layout, element_bits: int, embedding: Embedding | None = None) -> MatrixMatch | None:
    """Whether ldmatrix or stmatrix (the same register layout) can do an access (reg, lane, …) -> (offset,); None if not.

    Plain: the registers packed in 32 bits and lanes 0, 1 run along a 16-byte row. Transposed (.trans, 16-bit elements only): lanes 2, 3, 4
    do. The low log2(32 / element_bits) register digits are those packed into one 32-bit register.
    Source: PTX ISA, ldmatrix and stmatrix, figures of the 8 x 8 fragment.
    """
    lanes = access.columns_of(LANE)
    packed = log2_exact(max(_REGISTER_BITS // element_bits, 1))
    row_digits = log2_exact(ROW_BITS // element_bits)
    registers, radices = access.columns_of(REG), access.in_axis(REG).digits
    is_served = len(lanes) == 5 and element_bits <= _REGISTER_BITS and radices[:packed] == (2,) * packed
    if not is_served or _aligned_digits(embedding or Embedding.natural(access.outs[0])) < row_digits:
        return None
    along_row = (*registers[:packed], *lanes[:2])
    down_rows = lanes[2:]
    if element_bits == 16 and lanes[2:] == (1, 2, 4):
        along_row, down_rows, is_transposed = lanes[2:], (registers[0], *lanes[:2]), True
    else:
        is_transposed = False
    row = (1 << row_digits) - 1
    if along_row != tuple(1 << bit for bit in range(row_digits)) or sum(1 for column in access.columns if column & row) != row_digits:
        return None
    selectors = [digit for digit in range(packed, len(radices)) if radices[digit] == 2][:2]
    repeats = [digit for digit in range(packed, len(radices)) if digit not in selectors]
    addresses = access.reorder_digits(REG, [*repeats, *range(packed), *selectors])
    start, stop = addresses.in_digits(REG).start, addresses.in_digits(REG).stop
    columns = list(addresses.columns)
    for digit, column in zip(addresses.in_digits(LANE), (*down_rows, *(registers[s] for s in selectors), 0, 0), strict=False):
        columns[digit] = column
    del columns[start + len(repeats) : stop]
    ins = tuple(Axis(REG, tuple(radices[digit] for digit in repeats)) if axis.name == REG else axis for axis in addresses.ins)
    order = (*range(packed), *selectors, *repeats)
    return MatrixMatch(1 << len(selectors), is_transposed, order, Layout(ins, addresses.outs, tuple(columns)))


@dataclass(frozen=True, slots=True)
class InstructionMatch:
    """`rest`: which instruction of the tile, in atom-sized steps; `register_order` makes each instruction's registers the low digits."""

    rest: Layout
    register_order: tuple[int, ...]


def match_instruction(fragment: Layout, atom: Layout, axis: str = REG) -> InstructionMatch | None:
    """Left division of a fragment by an operand layout up to register numbering: rest * atom == fragment.reorder_digits(axis, order)."""
    if not (fragment.has_input(axis) and atom.has_input(axis)) or not all(fragment.has_output(out.name) for out in atom.outs):
        return None
    positions = [digit for out in atom.outs for digit in list(fragment.out_digits(out.name))[: len(out.digits)]]
    if len(positions) != len(atom.out_radices):
        return None
    radices, columns = fragment.in_axis(axis).digits, fragment.columns_of(axis)
    order: list[int] = []
    for radix, column in zip(atom.in_axis(axis).digits, atom.columns_of(axis), strict=True):
        wanted = remap(column, positions)
        candidates = (d for d in range(len(radices)) if d not in order and radices[d] == radix and columns[d] == wanted)
        digit = next(candidates, None)
        if digit is None:
            return None
        order.append(digit)
    order += [digit for digit in range(len(radices)) if digit not in order]
    rest = fragment.reorder_digits(axis, order).divide(atom)
    return None if rest is None else InstructionMatch(rest, tuple(order))


@dataclass(frozen=True, slots=True)
class SwizzleMatch:
    """A memory layout as a grid of hardware swizzle atoms, for wgmma descriptors and TMA boxes.

    `row_strides_bytes[d]` and `column_strides_bytes[d]` are the byte distances for digit d of the atom's index along each axis (radices in
    `rest`). Leading and stride byte offsets of a descriptor are the first of each; further digits are further instructions or boxes.
    """

    mode: SwizzleMode
    rest: Layout
    row_strides_bytes: tuple[int, ...]
    column_strides_bytes: tuple[int, ...]

    @staticmethod
    def uniform_extent(strides_bytes: tuple[int, ...], digits: tuple[int, ...]) -> int:
        """How many atoms in a row keep one stride: the extent that a single descriptor or box can span."""
        extent = 1
        for stride, radix in zip(strides_bytes, digits, strict=True):
            if stride != strides_bytes[0] * extent:
                break
            extent *= radix
        return extent


def match_swizzle(memory: MemoryLayout, element_bits: int, row: str, column: str) -> SwizzleMatch | None:
    """The widest hardware swizzle whose atom divides `memory`, with `column` the contiguous axis; None if none does.

    None as well if the atoms do not repeat at plain strides, or are padded inside.
    K-major operands have k as the column, MN-major ones have m or n.
    """
    for mode in WIDEST_FIRST:
        atom = swizzle_atom(mode, element_bits, row, column, memory.layout.outs[0].name)
        rest = memory.layout.divide(atom)
        if rest is None:
            continue
        inside = len(atom.outs[0].digits)
        if _aligned_digits(memory.embedding) < inside:
            return None
        strides: dict[str, tuple[int, ...]] = {}
        for axis in (row, column):
            columns = rest.columns_of(axis)
            if any(step.bit_count() != 1 for step in columns):
                return None
            bits = (inside + step.bit_length() - 1 for step in columns)
            strides[axis] = tuple(memory.embedding.strides_elements[bit] * element_bits // 8 for bit in bits)
        return SwizzleMatch(mode, rest, strides[row], strides[column])
    return None
