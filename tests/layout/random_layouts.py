"""Random layouts for property tests, and an evaluation of layouts that shares no code with the package."""

from __future__ import annotations

import random
from itertools import product

from hypothesis import strategies as st

from tilewright.layout import Axis, Layout

SEEDS = st.integers(0, 2**32 - 1)
EXTENTS = (1, 2, 3, 4, 5, 6, 8, 9, 12)


def random_axes(rng: random.Random, names: str, extents: tuple[int, ...] = EXTENTS) -> tuple[Axis, ...]:
    """One axis per letter, with digits in random order."""
    axes = []
    for name in names:
        digits = list(Axis.of(name, rng.choice(extents)).digits)
        rng.shuffle(digits)
        axes.append(Axis(name, tuple(digits)))
    return tuple(axes)


def random_layout(rng: random.Random, ins: tuple[Axis, ...], outs: tuple[Axis, ...]) -> Layout:
    """Any homomorphism between the axes."""
    radices = [radix for axis in outs for radix in axis.digits]
    binary = sum(1 << bit for bit, radix in enumerate(radices) if radix == 2)
    free = [bit for bit, radix in enumerate(radices) if radix != 2]
    rng.shuffle(free)
    columns = []
    for axis in ins:
        for radix in axis.digits:
            if radix == 2:
                columns.append(rng.getrandbits(len(radices) + 1) & binary)
                continue
            target = next((bit for bit in free if radices[bit] == radix and rng.random() < 0.8), None)
            if target is not None:
                free.remove(target)
            columns.append(0 if target is None else 1 << target)
    return Layout(ins, outs, tuple(columns))


def random_bijection(rng: random.Random, ins: tuple[Axis, ...], out: str) -> Layout:
    """A one-to-one layout onto one axis: a random order of the digits, then random XORs of one digit into another."""
    radices = [radix for axis in ins for radix in axis.digits]
    order = list(range(len(radices)))
    rng.shuffle(order)  # output digit k is input digit order[k]
    columns = [0] * len(radices)
    for bit, digit in enumerate(order):
        columns[digit] = 1 << bit
    twos = [digit for digit, radix in enumerate(radices) if radix == 2]
    for _ in range(2 * len(twos)):
        first, second = rng.choice(twos), rng.choice(twos)
        if first != second:
            columns[first] ^= columns[second]
    return Layout(ins, (Axis(out, tuple(radices[digit] for digit in order)),), tuple(columns))


def points(axes: tuple[Axis, ...]) -> list[tuple[int, ...]]:
    """All points of a tile, row-major."""
    return list(product(*(range(axis.extent) for axis in axes)))


def naive_image(layout: Layout, point: tuple[int, ...]) -> tuple[int, ...]:
    """The image of a point, digit by digit from the definition in the docs."""
    out_radices = [radix for axis in layout.outs for radix in axis.digits]
    sums = [0] * len(out_radices)
    columns = list(layout.columns)
    for axis, coordinate in zip(layout.ins, point, strict=True):
        for radix in axis.digits:
            column, digit = columns.pop(0), coordinate % radix
            coordinate //= radix
            for bit in range(len(out_radices)):
                if column >> bit & 1:
                    sums[bit] = (sums[bit] + digit) % out_radices[bit]
    image = []
    for axis in layout.outs:
        value, place = 0, 1
        for radix in axis.digits:
            value, place = value + sums.pop(0) * place, place * radix
        image.append(value)
    return tuple(image)
