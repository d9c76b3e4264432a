"""Layouts as shift-and-mask pieces (floor 1): what the code generator needs to print a layout as integer arithmetic.

Consecutive digits that move together become one term (x / divisor % modulus), so a row-major layout is one multiply per axis and a swizzle
adds one XOR. Terms of one field are combined by XOR, and fields by addition: a field is a run of radix-2 digits with doubling strides, or
one odd digit.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.layout.embedding import Embedding
from tilewright.layout.layout import Layout


@dataclass(frozen=True, slots=True)
class Term:
    """(x / divisor % modulus) * multiplier with x the coordinate of `axis`.

    `needs_modulus` is false where x / divisor is already below the modulus.
    """

    axis: str
    divisor: int
    modulus: int
    multiplier: int
    needs_modulus: bool


@dataclass(frozen=True, slots=True)
class Field:
    """stride * (XOR of the terms). `is_disjoint`: no two terms share a bit, so + or | serves as well as XOR."""

    stride: int
    terms: tuple[Term, ...]
    is_disjoint: bool


def address_fields(layout: Layout, out: str, embedding: Embedding | None = None) -> tuple[Field, ...]:
    """The coordinate of output axis `out` as a sum of fields, plus `embedding.base_elements` if one is given.

    Fields nothing reaches are left out.
    """
    digits = layout.out_digits(out)
    strides = (embedding or Embedding.natural(layout.out_axis(out))).strides_elements
    radices = layout.out_axis(out).digits
    fields = []
    start = 0
    while start < len(radices):
        stop = start + 1
        while radices[start] == 2 and stop < len(radices) and radices[stop] == 2 and strides[stop] == 2 * strides[stop - 1]:
            stop += 1
        terms = _terms(layout, digits.start + start, digits.start + stop)
        if terms:
            reached = [term.multiplier * (term.modulus - 1) for term in terms]
            is_disjoint = len(terms) == 1 or sum(reached) == _union(reached)
            fields.append(Field(strides[start], terms, is_disjoint))
        start = stop
    return tuple(fields)


def _union(masks: list[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union


def _terms(layout: Layout, start: int, stop: int) -> tuple[Term, ...]:
    """Diagonal runs: input digit d to output bit b, d + 1 to b + 1, and so on, within output bits start..stop - 1."""
    terms = []
    for axis in layout.ins:
        columns, places = layout.columns_of(axis.name), axis.places
        entries = {(digit, bit) for digit, column in enumerate(columns) for bit in range(start, stop) if column >> bit & 1}
        for digit, bit in sorted(entries):
            if axis.digits[digit] == 2 and (digit - 1, bit - 1) in entries and axis.digits[digit - 1] == 2:
                continue  # belongs to the run that began lower
            modulus, last = axis.digits[digit], digit
            while axis.digits[digit] == 2 and (last + 1, bit + last + 1 - digit) in entries and axis.digits[last + 1] == 2:
                last += 1
                modulus *= 2
            needs_modulus = last + 1 < len(axis.digits)
            terms.append(Term(axis.name, places[digit], modulus, 1 << (bit - start), needs_modulus))
    return tuple(terms)
