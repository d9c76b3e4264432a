"""Layouts as index expressions (floor 3): digits are cut out with `//` and `%`, put in place by their weights, and XORed only where columns overlap.

Digits that stay together are one term: a row-major tile gives `i * 64 + j`, and an XOR swizzle `i * 64 + (j // 8 ^ i % 8) * 8 + j % 8`, from
which `linear` can read that the low digits of j are contiguous.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tilewright.ir.expr import Expr, Op, binary, const, logical
from tilewright.layout.digits import LANE, WARP, Axis, LayoutError
from tilewright.layout.embedding import MemoryLayout
from tilewright.layout.gf2 import set_bits, union
from tilewright.layout.layout import Layout


def lower_layout(layout: Layout, coordinates: Mapping[str, Expr]) -> dict[str, Expr]:
    """The coordinate on each output axis, for input coordinates that lie inside their axes.

    Raises: LayoutError if the coordinates do not name the input axes.
    """
    images: dict[str, Expr] = {}
    for axis in layout.outs:
        weights = [0] * len(layout.out_radices)
        for digit, place in zip(layout.out_digits(axis.name), axis.places, strict=True):
            weights[digit] = place
        images[axis.name] = _weighted(layout, coordinates, weights, 0)
    return images


def is_below(layout: Layout, coordinates: Mapping[str, Expr], axis: str, extent: int) -> Expr:
    """Whether the coordinate on an output axis is below `extent`, as a bool expression.

    Where the registers decide alone, whatever the thread, a test of them stands first: once a loop over registers is unrolled, only the others test anything.
    """
    inside = binary(Op.LT, lower_layout(layout, coordinates)[axis], const(extent))
    digits = layout.out_digits(axis)
    of_threads = [c for name in (LANE, WARP) if layout.has_input(name) for c in layout.columns_of(name)]
    of_registers = [c for a in layout.ins if a.name not in (LANE, WARP) for c in layout.columns_of(a.name)]
    shared = union(of_threads) & union(of_registers)
    places = zip(digits, layout.out_axis(axis).digits, layout.out_axis(axis).places, strict=True)
    largest = sum(place * (radix - 1) for digit, radix, place in places if union(of_threads) >> digit & 1)
    if any(shared >> digit & 1 for digit in digits) or extent <= largest:
        return inside
    zero = {name: const(0) for name in (LANE, WARP) if layout.has_input(name)}
    return logical(Op.OR, binary(Op.LT, lower_layout(layout, {**coordinates, **zero})[axis], const(extent - largest)), inside)


def lower_memory_layout(memory: MemoryLayout, coordinates: Mapping[str, Expr]) -> Expr:
    """The address in elements, for coordinates that lie inside their axes. Raises: LayoutError if they do not name the input axes."""
    return _weighted(memory.layout, coordinates, memory.embedding.strides_elements, memory.embedding.base_elements)


@dataclass(frozen=True, slots=True)
class _Piece:
    """weight * (coordinate // place % size)."""

    axis: Axis
    place: int
    size: int
    weight: int

    def continues(self, low: _Piece) -> bool:
        return self.axis is low.axis and self.place == low.place * low.size and self.weight == low.weight * low.size

    def to_expr(self, coordinate: Expr) -> Expr:
        value = coordinate // self.place if self.place > 1 else coordinate
        if self.place * self.size < self.axis.extent:
            value = value % self.size
        return value * self.weight


def _weighted(layout: Layout, coordinates: Mapping[str, Expr], weights: Sequence[int], base: int) -> Expr:
    """base + sum of weight * output digit."""
    if coordinates.keys() != {axis.name for axis in layout.ins}:
        raise LayoutError(f"got coordinates {sorted(coordinates)}, the inputs are {[axis.name for axis in layout.ins]}")
    sources: list[list[_Piece]] = [[] for _ in weights]  # per output digit: the input digits that step it, each with weight 1
    for axis in layout.ins:
        for place, radix, column in zip(axis.places, axis.digits, layout.columns_of(axis.name), strict=True):
            for digit in set_bits(column):
                sources[digit].append(_Piece(axis, place, radix, 1))
    pieces = [_Piece(p.axis, p.place, p.size, weight) for parts, weight in zip(sources, weights, strict=True) if len(parts) == 1 for p in parts]
    terms = [(piece.axis, piece.to_expr(coordinates[piece.axis.name])) for piece in _joined(p for p in pieces if p.weight)]
    order = {axis.name: number for number, axis in enumerate(layout.ins)}
    total: Expr | None = None
    for _, term in sorted(terms, key=lambda t: order[t[0].name]):
        total = term if total is None else total + term
    for run in _xor_runs(sources, weights):
        field = _xored([sources[digit] for digit in run], coordinates) * weights[run[0]]
        total = field if total is None else total + field
    if total is None:
        return const(base)
    return total if base == 0 else total + base


def _joined(pieces: Iterable[_Piece]) -> list[_Piece]:
    """Neighbouring digits of a coordinate that also stay neighbours become one piece."""
    joined: list[_Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.axis.name, p.place)):
        if joined and piece.continues(joined[-1]):
            low = joined.pop()
            piece = _Piece(low.axis, low.place, low.size * piece.size, low.weight)
        joined.append(piece)
    return joined


def _xor_runs(sources: list[list[_Piece]], weights: Sequence[int]) -> list[list[int]]:
    """Runs of neighbouring output digits with several sources whose weights double: one XOR serves a whole run."""
    runs: list[list[int]] = []
    for digit, (parts, weight) in enumerate(zip(sources, weights, strict=True)):
        if len(parts) < 2 or weight == 0:
            continue
        if runs and runs[-1][-1] == digit - 1 and weights[digit - 1] * 2 == weight:
            runs[-1].append(digit)
        else:
            runs.append([digit])
    return runs


def _xored(run: list[list[_Piece]], coordinates: Mapping[str, Expr]) -> Expr:
    """The value of a run of binary digits: layers that have one source per digit, XORed."""
    field: Expr | None = None
    for depth in range(max(len(parts) for parts in run)):
        layer: Expr | None = None
        for piece in _joined(_Piece(parts[depth].axis, parts[depth].place, 2, 1 << bit) for bit, parts in enumerate(run) if depth < len(parts)):
            term = piece.to_expr(coordinates[piece.axis.name])
            layer = term if layer is None else layer + term
        assert layer is not None
        field = layer if field is None else binary(Op.BIT_XOR, field, layer)
    assert field is not None
    return field
