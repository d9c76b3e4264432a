"""Random scalar expressions as Python text, with bounds on their values (floor 9)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from tilewright import dtypes
from tilewright.dtypes import DType, promote
from tilewright.testing import bounds
from tilewright.testing.bounds import Bound


@dataclass(frozen=True)
class Term:
    """An expression's text, in parentheses where it needs them, and what is known of its value."""

    text: str
    bound: Bound

    @property
    def dtype(self) -> DType:
        return self.bound.dtype


@dataclass(frozen=True)
class Index:
    """An integer expression with 0 <= value < extent."""

    text: str
    extent: int

    @property
    def term(self) -> Term:
        return Term(self.text, Bound(dtypes.int32, float(max(self.extent - 1, 0))))


@dataclass(frozen=True)
class _Function:
    """A smooth function: argument text with {0}, the range its argument is clamped to, greatest value and slope there."""

    text: str
    limit: float
    magnitude: float
    slope: float


# 8 units: what the catalogue promises (4 at most), and the reference's own rounding.
_ULP = 8.0
_FUNCTIONS = (
    _Function("T.exp2({0})", 4, 16, 11.1),
    _Function("T.exp({0})", 3, 20.1, 20.1),
    _Function("T.sqrt(abs({0}) + 1)", 64, 8.1, 0.5),
    _Function("T.rsqrt(abs({0}) + 1)", 64, 1, 0.5),
    _Function("T.log2(abs({0}) + 1)", 64, 6.1, 1.45),
    _Function("T.log(abs({0}) + 1)", 64, 4.2, 1),
    _Function("T.sin({0})", 16, 1, 1),
    _Function("T.cos({0})", 16, 1, 1),
    _Function("T.tanh({0})", 16, 1, 1),
    _Function("T.sigmoid({0})", 16, 1, 0.25),
    _Function("T.erf({0})", 8, 1, 1.13),
    _Function("T.atan({0})", 64, 1.6, 1),
    _Function("T.exp10({0})", 1, 10, 23.1),
    _Function("T.sinh({0})", 2, 3.7, 3.8),
    _Function("T.log1p(abs({0}))", 64, 4.2, 1),
    _Function("T.asinh({0})", 64, 4.9, 1),
)
MATH_DTYPES = (dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64)
CAST_DTYPES = (
    dtypes.float32,
    dtypes.float16,
    dtypes.bfloat16,
    dtypes.float64,
    dtypes.int32,
    dtypes.int8,
    dtypes.int16,
    dtypes.int64,
    dtypes.uint8,
    dtypes.uint32,
    dtypes.float32,
    dtypes.int32,
)


def integer(value: int) -> Term:
    return Term(str(value) if value >= 0 else f"({value})", Bound(dtypes.int32, float(abs(value))))


def number(value: float) -> Term:
    """A float literal that is a multiple of 1/4."""
    return Term(repr(value) if value >= 0 else f"({value!r})", Bound(dtypes.float32, abs(value), 0.0, 0.25 if value % 1 else 1.0))


class Expressions:
    """Makes expressions over leaves.

    leaf     a random readable value.
    indices  integers with known ranges, for conditions.
    """

    def __init__(self, rng: random.Random, leaf: Callable[[], Term], indices: list[Index]) -> None:
        self.rng, self.leaf, self.indices = rng, leaf, indices

    def value(self, depth: int) -> Term:
        """An expression of at most this depth."""
        if depth == 0 or self.rng.random() < 0.15:
            return self._atom()
        kinds = (
            self._sum,
            self._product,
            self._extremum,
            self._choice,
            self._function,
            self._integer_operation,
            self._cast,
            self._unary,
            self._quotient,
            self._sum,
            self._product,
        )
        for _ in range(4):
            made = self.rng.choice(kinds)(depth - 1)
            if made is not None:
                return made
        return self.leaf()

    def of_dtype(self, dtype: DType, depth: int) -> Term:
        """An expression whose value can be stored as `dtype` with the same result everywhere."""
        for attempt in range(8):
            made = self.value(depth if attempt < 5 else 0)
            if bounds.convert(made.bound, dtype) is not None:
                return made
        return integer(self.rng.randrange(0, 4))

    def condition(self, depth: int) -> Term:
        """A bool that every executor decides alike."""
        rng = self.rng
        if depth > 0 and rng.random() < 0.3:
            a, b = self.condition(depth - 1), self.condition(depth - 1)
            return Term(rng.choice((f"({a.text} and {b.text})", f"({a.text} or {b.text})", f"(not {a.text})")), a.bound)
        truth = Bound(dtypes.bool_, 1.0)
        if self.indices and rng.random() < 0.5:
            index = rng.choice(self.indices)
            bound, step = rng.randrange(index.extent + 1), rng.randrange(2, 5)
            return Term(
                rng.choice(
                    (
                        f"({index.text} < {bound})",
                        f"({index.text} >= {bound})",
                        f"({index.text} % {step} == {rng.randrange(step)})",
                        f"({rng.randrange(index.extent)} <= {index.text} < {bound})",
                        f"({index.text} != {bound})",
                    )
                ),
                truth,
            )
        a, b = self._certain(depth), self._certain(0)
        if not any("[" in t.text or any(i.text in t.text for i in self.indices) for t in (a, b)):
            return self.condition(0) if self.indices else Term(f"({self.leaf().text} == {self.leaf().text})", truth)
        if promote(a.dtype, b.dtype).is_float and rng.random() < 0.5:
            b = integer(rng.randrange(-2, 3))
        return Term(f"({a.text} {rng.choice(('<', '<=', '>', '>=', '==', '!='))} {b.text})", truth)

    def _certain(self, depth: int) -> Term:
        for _ in range(4):
            made = self.value(depth)
            if made.bound.is_certain:
                return made
        return integer(self.rng.randrange(-2, 3))

    def _atom(self) -> Term:
        draw = self.rng.random()
        if draw < 0.12:
            return integer(self.rng.randrange(-4, 5))
        if draw < 0.22:
            return number(self.rng.randrange(-8, 9) / 4)
        if draw < 0.32 and self.indices:
            return self.rng.choice(self.indices).term
        return self.leaf()

    def _sum(self, depth: int) -> Term | None:
        a, b = self.value(depth), self.value(depth)
        bound = bounds.add(a.bound, b.bound)
        return None if bound is None else Term(f"({a.text} {self.rng.choice('+-')} {b.text})", bound)

    def _product(self, depth: int) -> Term | None:
        a, b = self.value(depth), self.value(depth)
        bound = bounds.multiply(a.bound, b.bound)
        return None if bound is None else Term(f"({a.text} * {b.text})", bound)

    def _extremum(self, depth: int) -> Term | None:
        a, b = self.value(depth), self.value(depth)
        bound = bounds.extremum(a.bound, b.bound)
        if a.dtype.is_bool or b.dtype.is_bool or bound is None:
            return None
        return Term(f"T.{self.rng.choice(('max', 'min'))}({a.text}, {b.text})", bound)

    def _choice(self, depth: int) -> Term | None:
        a, b, condition = self.value(depth), self.value(depth), self.condition(depth)
        bound = bounds.extremum(a.bound, b.bound)
        if bound is None:
            return None
        forms = ("T.if_then_else({c}, {a}, {b})", "({a} if {c} else {b})", "T.Select({c}, {a}, {b})")
        return Term(self.rng.choice(forms).format(c=condition.text, a=a.text, b=b.text), bound)

    def _float(self, depth: int) -> Term:
        """An argument for a math function: of a dtype that has them, no larger than it is."""
        a = self.value(depth)
        if a.dtype in MATH_DTYPES:
            return a
        converted = bounds.convert(a.bound, dtypes.float32)
        return Term(f"T.cast({a.text}, 'float32')", converted) if converted is not None else number(self.rng.randrange(-8, 9) / 4)

    def _function(self, depth: int) -> Term | None:
        function = self.rng.choice(_FUNCTIONS)
        a = self.clamped(self._float(depth), int(function.limit))
        return Term(function.text.format(a.text), bounds.function(a.bound, function.magnitude, function.slope, _ULP))

    def clamped(self, a: Term, limit: int) -> Term:
        """The value moved into [-limit, limit]."""
        if a.bound.magnitude <= limit:
            return a
        bound = replace(a.bound, magnitude=float(limit), dtype=promote(a.dtype, dtypes.int32))
        if not a.dtype.is_signed and a.dtype.is_integer:
            return Term(f"T.min({a.text}, {limit})", bound)
        return Term(self.rng.choice((f"T.clamp({a.text}, {-limit}, {limit})", f"T.min(T.max({a.text}, {-limit}), {limit})")), bound)

    def _integer_operation(self, depth: int) -> Term | None:
        a = self.value(depth)
        if not a.dtype.is_integer:
            return None
        dtype, size, c = promote(a.dtype, dtypes.int32), a.bound.magnitude, self.rng.choice((1, 2, 3, 4, 5, 7, 8, 13))
        if not dtype.is_signed and a.dtype.is_signed:
            return None
        power = float(2 ** math.ceil(math.log2(max(size, c) + 1)))
        shift = self.rng.randrange(0, 4)
        grown = Bound(a.dtype, size * 2**shift) if size * 2**shift <= float(a.dtype.maximum) else Bound(a.dtype, bounds.full_range(a.dtype))
        options = [
            Term(f"({a.text} // {c})", Bound(dtype, size / c + 1)),
            Term(f"({a.text} % {c})", Bound(dtype, float(c - 1))),
            Term(f"T.truncdiv({a.text}, {c})", Bound(dtype, size / c)),
            Term(f"T.truncmod({a.text}, {c})", Bound(dtype, float(c - 1))),
            Term(f"({a.text} & {c})", Bound(dtype, float(c))),
            Term(f"({a.text} | {c})", Bound(dtype, power)),
            Term(f"({a.text} ^ {c})", Bound(dtype, power)),
            Term(f"({a.text} << {shift})", grown),
            Term(f"({a.text} >> {shift})", Bound(a.dtype, size / 2**shift + 1)),
        ]
        made = self.rng.choice(options)
        return made if made.bound.fits else None

    def _cast(self, depth: int) -> Term | None:
        a, dtype = self.value(depth), self.rng.choice(CAST_DTYPES)
        bound = bounds.convert(a.bound, dtype)
        if bound is None or not ("[" in a.text or any(a.text == i.text for i in self.indices)):
            return None  # constants are checked against the dtype's range when they are cast
        forms = ["T.cast({a}, '{d}')", "T.Cast('{d}', {a})", "T.{d}({a})"] + ["{a}.astype('{d}')"] * (a.text[-1] in ")]" and " if " not in a.text)
        return Term(self.rng.choice(forms).format(a=a.text, d=dtype), bound)

    def _unary(self, depth: int) -> Term | None:
        a = self.value(depth)
        if a.dtype.is_bool or (a.dtype.is_integer and (not a.dtype.is_signed or a.bound.magnitude > float(a.dtype.maximum))):
            return None
        options = [Term(f"(-{a.text})", a.bound), Term(f"abs({a.text})", a.bound), Term(f"T.abs({a.text})", a.bound)]
        if a.dtype in MATH_DTYPES and a.bound.is_certain and a.bound.magnitude < 1 << 20:
            whole = bounds.rounded(a.dtype, a.bound.magnitude + 1, 0.0, 1.0)
            options += [Term(f"T.{name}({a.text})", whole) for name in ("floor", "ceil", "trunc", "round")]
        return self.rng.choice(options)

    def _quotient(self, depth: int) -> Term | None:
        a = self._float(depth)
        c = self.rng.choice((2, 3, 4, 5, 8, 16))
        if c in (2, 4, 8, 16):
            return Term(f"({a.text} / {c})", bounds.rounded(a.dtype, a.bound.magnitude / c, a.bound.error / c, a.bound.grain / c))
        return Term(f"({a.text} / {c})", bounds.rounded(a.dtype, a.bound.magnitude / c, a.bound.error / c, 0.0))
