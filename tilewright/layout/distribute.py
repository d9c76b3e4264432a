"""Giving a tile to threads (floor 1): which cells of `T.Parallel(64, 80)` each of 128 threads handles, with vectors along the last axis.

The low digits of the last axis become one vector, the next factors of two go to threads (neighbouring lanes on neighbouring cells), what is
left becomes registers. Extents without enough factors are padded, the pad cells to be guarded; thread digits that find no place hold
replicas, and the writer is the one with those digits at 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd, prod

import numpy as np

from tilewright.layout.digits import LANE, REG, WARP, Axis, LayoutError, factor, log2_exact, tile_axes
from tilewright.layout.layout import Layout


@dataclass(frozen=True, slots=True)
class Distribution:
    """`layout`: (reg, lane, warp) -> padded axes d0, d1, …; the low registers up to `vector_elements` are contiguous on the last axis.

    `extents` are the true ones. A vector never straddles a true extent, so one guard per vector is enough.
    """

    layout: Layout
    extents: tuple[int, ...]
    vector_elements: int

    @property
    def padded_extents(self) -> tuple[int, ...]:
        return tuple(axis.extent for axis in self.layout.outs)

    @property
    def guarded_axes(self) -> tuple[int, ...]:
        """Axes whose coordinate must be compared with the true extent."""
        return tuple(axis for axis, (padded, extent) in enumerate(zip(self.padded_extents, self.extents, strict=True)) if padded > extent)

    @property
    def elements_per_thread(self) -> int:
        return self.layout.in_axis(REG).extent

    @property
    def num_threads(self) -> int:
        """Threads that take part; any further ones of the block are idle."""
        return self.layout.in_axis(LANE).extent * self.layout.in_axis(WARP).extent

    @property
    def has_replicas(self) -> bool:
        """Whether several threads hold the same cells, so that side effects need the elected writer."""
        return not self.layout.is_injective


@dataclass(frozen=True, slots=True)
class _Padding:
    """A choice of padded extents: factors of two it offers (capped), odd thread factor still without a place."""

    extents: tuple[int, ...]
    twos: int
    idle_factor: int


def distribute(extents: Sequence[int], num_threads: int, vector_elements: int = 1, *, warp_size: int = 32, sector_elements: int = 1) -> Distribution:
    """Spreads a tile over threads so that each thread has the fewest elements plus vectors; among equals, wide vectors and little padding.

    `vector_elements` is the widest vector wanted (a power of two); it is narrowed to divide the last extent or to busy more threads.
    `sector_elements`: elements that neighbouring lanes should cover together (32 bytes for global memory); shorter runs count as costlier.
    `num_threads` is rounded down to whole warps (or a power of two below one warp).
    Raises: LayoutError for empty extents or a vector that is no power of two.
    """
    extents = tuple(extents)
    if not extents or min(extents) < 1 or num_threads < 1:
        raise LayoutError(f"cannot distribute a tile of extents {extents} over {num_threads} threads")
    threads = num_threads // warp_size * warp_size if num_threads >= warp_size else 1 << (num_threads.bit_length() - 1)
    thread_twos = _twos(threads)
    odd_factor = threads >> thread_twos
    widest = min(log2_exact(vector_elements), _twos(extents[-1]))
    candidates = []
    for outer in _outer_choices(extents[:-1], thread_twos, odd_factor):
        for last in _paddings(extents[-1], odd_factor):
            padded = (*outer.extents, last)
            idle_factor = outer.idle_factor // gcd(outer.idle_factor, last)
            for log2_vector in range(min(widest, _twos(last)) + 1):
                used_twos = min(thread_twos, outer.twos + _twos(last) - log2_vector)
                elements = prod(padded) * idle_factor // (odd_factor << used_twos)
                run = 1 << min(_twos(last), log2_vector + used_twos)  # cells that neighbouring lanes cover together
                is_whole_row = last == extents[-1] and run == last
                cost = (elements + (elements >> log2_vector)) * (1 if is_whole_row else max(1, sector_elements // run))
                candidates.append((cost, -log2_vector, prod(padded), padded, used_twos))
    _, negative_log2_vector, _, padded, used_twos = min(candidates)
    return Distribution(_build(padded, -negative_log2_vector, used_twos, threads, warp_size), extents, 1 << -negative_log2_vector)


def whole_registers(layout: Layout, extents: Sequence[int]) -> int:
    """How many registers, from the first on, hold cells inside the true extents in every thread: (reg, lane, warp) -> padded axes d0, d1, …."""
    if all(axis.extent == extent for axis, extent in zip(layout.outs, extents, strict=True)):
        return layout.in_axis(REG).extent
    table = layout.reorder(ins=[REG, LANE, WARP], outs=[f"d{a}" for a in range(len(extents))]).table()
    is_outside = np.flatnonzero((table >= np.asarray(tuple(extents))).any(axis=(1, 2, 3)))
    return int(is_outside[0]) if is_outside.size else layout.in_axis(REG).extent


def _twos(extent: int) -> int:
    """The exponent of 2 in `extent`."""
    return (extent & -extent).bit_length() - 1


def _paddings(extent: int, odd_factor: int) -> Iterator[int]:
    """The extent and what it can grow to, at most twice its size: multiples of 2^k, with or without the odd part of the thread count."""
    candidates = {extent: None}  # a dict keeps order
    for odd in (1, odd_factor):
        for log2 in range(extent.bit_length() + 1):
            step = odd << log2
            padded = -(-extent // step) * step
            if padded <= 2 * extent:
                candidates[padded] = None
    yield from candidates


def _outer_choices(extents: tuple[int, ...], wanted_twos: int, odd_factor: int) -> list[_Padding]:
    """For all axes but the last: the smallest padding for each number of twos on offer and each odd thread factor left over."""
    choices = {(0, odd_factor): _Padding((), 0, odd_factor)}
    for extent in extents:
        grown: dict[tuple[int, int], _Padding] = {}
        for choice in choices.values():
            for padded in _paddings(extent, odd_factor):
                twos = min(wanted_twos, choice.twos + _twos(padded))
                idle = choice.idle_factor // gcd(choice.idle_factor, padded)
                candidate = _Padding((*choice.extents, padded), twos, idle)
                rival = grown.get((twos, idle))
                if rival is None or (prod(candidate.extents), candidate.extents) < (prod(rival.extents), rival.extents):
                    grown[twos, idle] = candidate
        choices = grown
    return list(choices.values())


def _build(padded: tuple[int, ...], log2_vector: int, used_twos: int, threads: int, warp_size: int) -> Layout:
    outs = tile_axes(padded)
    starts: dict[str, int] = {}
    position = 0
    for axis in outs:
        starts[axis.name] = position
        position += len(axis.digits)
    walk = [(starts[axis.name] + digit, radix) for axis in reversed(outs) for digit, radix in enumerate(axis.digits)]
    twos = [bit for bit, radix in walk if radix == 2]
    odds = [(bit, radix) for bit, radix in walk if radix != 2]
    vector, for_threads = twos[:log2_vector], twos[log2_vector : log2_vector + used_twos]
    thread_digits = factor(threads)
    owners: list[int | None] = []  # the tile digit that each thread digit moves, None for replicas
    for number, radix in enumerate(thread_digits):
        if radix == 2:
            owners.append(for_threads[number] if number < used_twos else None)
        else:
            bit = next((bit for bit, other in odds if other == radix), None)
            odds = [entry for entry in odds if entry[0] != bit]
            owners.append(bit)
    taken = {*vector, *owners}
    registers = [*((bit, 2) for bit in vector), *(entry for entry in walk if entry[0] not in taken)]
    lane_digits = len(factor(min(threads, warp_size)))
    ins = (
        Axis(REG, tuple(radix for _, radix in registers)),
        Axis(LANE, thread_digits[:lane_digits]),
        Axis(WARP, thread_digits[lane_digits:]),
    )
    columns = (*(1 << bit for bit, _ in registers), *(0 if bit is None else 1 << bit for bit in owners))
    return Layout(ins, outs, columns)
