"""Swizzles (floor 1): the hardware's 32, 64 and 128-byte atoms, tiles built from them, and a search for conflict-free ones.

A hardware swizzle XORs the 16-byte column of an address with its row: address bits 4.. are toggled by bits 7.., one, two or three of them
for spans of 32, 64 and 128 bytes. Source: PTX ISA, "Tensor swizzling modes" and the wgmma matrix descriptor section.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from tilewright.layout.banks import BANK_SPAN_BITS, WORD_BITS, phase_lane_digits
from tilewright.layout.digits import LANE, OFFSET, Axis, LayoutError, log2_exact
from tilewright.layout.gf2 import Span, set_bits
from tilewright.layout.layout import Layout

ATOM_ROWS = 8
_CHUNK_BITS = 128  # 16 bytes: the unit that a hardware swizzle moves
_SEARCH_NODES = 4096


class SwizzleMode(Enum):
    """How 16-byte chunks are permuted; the value is the span of one atom row in bytes. NONE is the plain 8 x 16-byte core matrix."""

    NONE = 16
    B32 = 32
    B64 = 64
    B128 = 128

    @property
    def span_bytes(self) -> int:
        return self.value

    @property
    def repeat_bytes(self) -> int:
        """Bytes after which the pattern repeats, and the base alignment it needs (1024 for 128B)."""
        return self.value * ATOM_ROWS

    def span_elements(self, element_bits: int) -> int:
        """Elements in one atom row."""
        return self.value * 8 // element_bits


WIDEST_FIRST = (SwizzleMode.B128, SwizzleMode.B64, SwizzleMode.B32, SwizzleMode.NONE)


def swizzle_atom(mode: SwizzleMode, element_bits: int, row: str = "row", column: str = "column", out: str = OFFSET) -> Layout:
    """(row 8, column span) -> (offset,) in elements, `column` contiguous in memory.

    `element_bits` is a power of two from 4 to 128. Example: B128 with 16 bits puts row r, column c at 64 r + (c ^ 8 r) for r < 8, c < 64.
    """
    columns = log2_exact(mode.span_elements(element_bits))
    chunk = log2_exact(_CHUNK_BITS // element_bits)
    toggles = columns - chunk  # how many chunk bits are XORed: 0, 1, 2, 3
    row_columns = []
    for digit in range(3):
        # address bit 7 + t toggles bit 4 + t, and row digit d sits at address bit 4 + toggles + d
        target = digit - (3 - toggles)
        row_columns.append(1 << (columns + digit) | (1 << (chunk + target) if target >= 0 else 0))
    axes = (Axis(row, (2, 2, 2)), Axis(column, (2,) * columns))
    return Layout(axes, (Axis(out, (2,) * (columns + 3)),), (*row_columns, *(1 << digit for digit in range(columns))))


def widest_swizzle(row_extent: int, column_extent: int, element_bits: int) -> SwizzleMode | None:
    """The widest mode whose atom tiles a (row_extent, column_extent) tile, columns contiguous; None if not even 8 x 16 bytes does."""
    for mode in WIDEST_FIRST:
        if row_extent % ATOM_ROWS == 0 and column_extent % mode.span_elements(element_bits) == 0:
            return mode
    return None


def tile_with_atom(atom: Layout, axes: Sequence[Axis], fastest_first: Sequence[str], out: str = OFFSET) -> Layout:
    """axes -> (out,): the atom repeated over the whole tile, repeats numbered with the axes named first varying fastest.

    Raises: LayoutError if the atom's extents are not low parts of the axes.
    """
    rest_axes = []
    for axis in axes:
        low = atom.in_axis(axis.name).digits if atom.has_input(axis.name) else ()
        if axis.digits[: len(low)] != low:
            raise LayoutError(f"an atom with digits {low} does not tile axis {axis} with digits {axis.digits}")
        rest_axes.append(Axis(axis.name, axis.digits[len(low) :]))
    return Layout.ordered(rest_axes, fastest_first, out) * atom


def swizzled_tile(axes: Sequence[Axis], element_bits: int, mode: SwizzleMode | None = None, out: str = OFFSET) -> Layout:
    """axes -> (out,): a tile with contiguous last axis in hardware swizzle, as TMA writes it and wgmma reads it.

    The last axis is cut into spans; each span holds all rows, spans follow each other. `mode` defaults to the widest that fits.
    Raises: LayoutError if the mode does not tile the last two axes.
    """
    if len(axes) < 2:
        raise LayoutError("a swizzled tile needs at least two axes")
    row, column = axes[-2], axes[-1]
    chosen = mode or widest_swizzle(row.extent, column.extent, element_bits)
    if chosen is None:
        raise LayoutError(f"no swizzle atom tiles {row} x {column} elements of {element_bits} bits")
    atom = swizzle_atom(chosen, element_bits, row.name, column.name, out)
    order = [row.name, column.name, *(axis.name for axis in reversed(axes[:-2]))]
    return tile_with_atom(atom, axes, order, out)


def banked_base(axes: Sequence[Axis], out: str = OFFSET) -> Layout:
    """axes -> (out,): row-major over the factors of two, odd digits slowest, so that bank bits are plain address bits for any extent."""
    walk = [(axis.name, digit, radix) for axis in reversed(axes) for digit, radix in enumerate(axis.digits)]
    walk = [entry for entry in walk if entry[2] == 2] + [entry for entry in walk if entry[2] != 2]
    bit = {(name, digit): number for number, (name, digit, _) in enumerate(walk)}
    columns = tuple(1 << bit[axis.name, digit] for axis in axes for digit in range(len(axis.digits)))
    return Layout(tuple(axes), (Axis(out, tuple(radix for *_, radix in walk)),), columns)


@dataclass(frozen=True, slots=True)
class SharedAccess:
    """One way a warp touches a shared tile: (…, lane, …) -> coordinates of each lane's vector, and elements per vector (a power of two).

    For ldmatrix and stmatrix give the row addresses: lane -> tile, with vectors of 16 bytes.
    """

    layout: Layout
    vector_elements: int


def search_swizzle(base: Layout, accesses: Sequence[SharedAccess], element_bits: int) -> Layout:
    """A tile -> (offset,) layout, `base` with XORs, under which all accesses are conflict free; if none is found, a greedy compromise.

    Idea: bank conflicts of access k are the vectors of its lane space U_k that the map to bank slots sends to 0. Choose, for each address
    digit h above the bank span, which slots it toggles; the kernel W of the slot map is then spanned by h + toggles(h), and it must meet
    every U_k only in 0. Depth-first, fewest toggles first, bounded and deterministic. Runs of the widest vector stay contiguous.
    `base` maps the tile one to one to one axis whose digits inside the bank span (128 bytes) have radix 2; `banked_base` gives one.
    Raises: LayoutError if `base` is not so.
    """
    (axis,) = base.outs
    widest = max((access.vector_elements for access in accesses), default=1)
    slot_start = log2_exact(max(widest, WORD_BITS // element_bits))
    slot_stop = min(log2_exact(BANK_SPAN_BITS // element_bits), len(axis.digits))
    if not base.is_bijective or any(radix != 2 for radix in axis.digits[:slot_stop]):
        raise LayoutError("the search needs a one-to-one base whose digits inside the bank span are all twos")
    spaces = [_lane_space(base, access, element_bits) for access in accesses]
    support = 0
    for space in spaces:
        for vector in space:
            support |= vector
    high = [bit for bit in set_bits(support) if bit >= slot_stop and axis.digits[bit] == 2]
    options = sorted(range(1 << max(0, slot_stop - slot_start)), key=lambda toggles: (toggles.bit_count(), toggles))
    steps = [toggles << slot_start for toggles in options]
    chosen = _search(high, steps, [Span(space) for space in spaces])
    columns = [1 << bit for bit in range(len(axis.digits))]
    for bit, toggles in zip(high, chosen, strict=True):
        columns[bit] |= toggles
    return Layout((axis,), (axis,), tuple(columns)).compose(base)


def _lane_space(base: Layout, access: SharedAccess, element_bits: int) -> tuple[int, ...]:
    """A basis of the addresses that the lanes of one phase reach, in words or wider vectors.

    Digits below the slots stay in: kernel vectors have none of them, so lanes that differ there cannot meet the kernel anyway.
    """
    lowest = log2_exact(max(WORD_BITS // element_bits, access.vector_elements))
    offsets = base.compose(access.layout).columns_of(LANE)[: phase_lane_digits(element_bits * access.vector_elements)]
    span = Span()
    return tuple(column for offset in offsets if not span.insert(column := offset >> lowest << lowest))


def _search(high: Sequence[int], steps: Sequence[int], spaces: list[Span]) -> list[int]:
    """Toggles per high digit with all kernel vectors independent of every space; greedy if the bounded search finds none."""
    budget = _SEARCH_NODES

    def descend(position: int, spans: list[Span]) -> list[int] | None:
        nonlocal budget
        if position == len(high):
            return []
        for toggles in steps:
            budget -= 1
            if budget < 0:
                return None
            grown = [span.copy() for span in spans]
            if any(span.insert(1 << high[position] | toggles) for span in grown):
                continue
            tail = descend(position + 1, grown)
            if tail is not None:
                return [toggles, *tail]
        return None

    return descend(0, spaces) or _greedy(high, steps, spaces)


def _greedy(high: Sequence[int], steps: Sequence[int], spaces: list[Span]) -> list[int]:
    chosen = []
    for bit in high:
        clashes = [sum(span.solve(1 << bit | toggles) is not None for span in spaces) for toggles in steps]
        toggles = steps[clashes.index(min(clashes))]
        for span in spaces:
            span.insert(1 << bit | toggles)
        chosen.append(toggles)
    return chosen
