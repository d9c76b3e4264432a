"""Arithmetic with an explicit rounding mode, `ieee_add_rz` and so on (floor 3).

The definition is the exact result, rounded once in the named direction (IEEE 754-2019, section 4.3). float16 and bfloat16 exist for `rn` only:
there the operation is done in float32 and rounded, as all arithmetic on narrow floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

from tilewright.intrin.signatures import one_of
from tilewright.ir.expr import Rounding
from tilewright.ir.intrinsic import Intrinsic

Array = np.ndarray[Any, np.dtype[Any]]


class IeeeOperation(Enum):
    """The operations; the value is the part of the name after `ieee_`."""

    ADD = "add"
    SUBTRACT = "sub"
    MULTIPLY = "mul"
    FUSED_MULTIPLY_ADD = "fmaf"
    RECIPROCAL = "frcp"
    SQUARE_ROOT = "fsqrt"
    DIVIDE = "fdiv"
    RECIPROCAL_SQUARE_ROOT = "frsqrt"


_ARITY = {IeeeOperation.RECIPROCAL: 1, IeeeOperation.SQUARE_ROOT: 1, IeeeOperation.RECIPROCAL_SQUARE_ROOT: 1, IeeeOperation.FUSED_MULTIPLY_ADD: 3}

# The exact result minus r, up to a positive factor.
_RESIDUAL: dict[IeeeOperation, Callable[..., Fraction]] = {
    IeeeOperation.ADD: lambda r, a, b: a + b - r,
    IeeeOperation.SUBTRACT: lambda r, a, b: a - b - r,
    IeeeOperation.MULTIPLY: lambda r, a, b: a * b - r,
    IeeeOperation.FUSED_MULTIPLY_ADD: lambda r, a, b, c: a * b + c - r,
    IeeeOperation.RECIPROCAL: lambda r, a: (1 - r * a) * a,
    IeeeOperation.SQUARE_ROOT: lambda r, a: a - r * r,
    IeeeOperation.DIVIDE: lambda r, a, b: (a - r * b) * b,
}


def _fused_multiply_add(a: Array, b: Array, c: Array) -> Array:
    """a * b + c rounded once to nearest, through exact rational numbers."""
    finite = np.isfinite(a) & np.isfinite(b)
    result = np.where(finite & np.isinf(c), c, a * b + c)  # right wherever an operand is infinite or NaN, and for the signs of zero
    finite &= np.isfinite(c)
    for i in map(tuple, np.argwhere(finite)):
        exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
        if exact == 0:
            continue
        sign = -1.0 if exact < 0 else 1.0
        try:
            nearest = float(exact)
        except OverflowError:
            nearest = sign * math.inf
        if result.dtype == np.float32 and math.isfinite(nearest) and Fraction(nearest) != exact and not np.float64(nearest).view(np.int64) & 1:
            # To the odd neighbour on the side of the exact value, so that rounding again to float32 is right.
            nearest = math.nextafter(nearest, math.inf if exact > nearest else -math.inf)
        result[i] = math.copysign(nearest, sign)
    return result


_NEAREST: dict[IeeeOperation, Callable[..., Array]] = {
    IeeeOperation.ADD: np.add,
    IeeeOperation.SUBTRACT: np.subtract,
    IeeeOperation.MULTIPLY: np.multiply,
    IeeeOperation.FUSED_MULTIPLY_ADD: _fused_multiply_add,
    IeeeOperation.RECIPROCAL: lambda a: 1 / a,
    IeeeOperation.SQUARE_ROOT: np.sqrt,
    IeeeOperation.DIVIDE: np.divide,
    IeeeOperation.RECIPROCAL_SQUARE_ROOT: lambda a: (1 / np.sqrt(a.astype(np.float64))).astype(a.dtype),
}


def _is_plus_zero(x: float) -> bool:
    return x == 0 and math.copysign(1.0, x) > 0


def _cancels(operation: IeeeOperation, operands: list[float]) -> bool:
    """An exact zero is a sum of terms that are not both +0: rounding down makes it -0 (IEEE 754-2019, section 6.3)."""
    match operation:
        case IeeeOperation.ADD:
            terms = operands
        case IeeeOperation.SUBTRACT:
            terms = [operands[0], -operands[1]]
        case IeeeOperation.FUSED_MULTIPLY_ADD:
            is_exact_zero = operands[0] == 0 or operands[1] == 0
            sign = math.copysign(1.0, operands[0]) * math.copysign(1.0, operands[1])
            terms = [math.copysign(0.0, sign) if is_exact_zero else sign, operands[2]]
        case _:
            return False
    return not all(map(_is_plus_zero, terms))


def _rounded(operation: IeeeOperation, rounding: Rounding, *arrays: Array) -> Array:
    arrays = np.broadcast_arrays(*(np.atleast_1d(a) for a in arrays))
    with np.errstate(all="ignore"):
        nearest = np.array(_NEAREST[operation](*arrays))
        if rounding is Rounding.NEAREST_EVEN:
            return nearest
        result = nearest.copy()
        finite = np.logical_and.reduce([np.isfinite(a) for a in arrays]) & ~np.isnan(nearest)
        for i in map(tuple, np.argwhere(finite)):
            operands = [float(a[i]) for a in arrays]
            if operation in (IeeeOperation.RECIPROCAL, IeeeOperation.DIVIDE) and operands[-1] == 0:
                continue
            r = nearest[i]
            error = -int(np.sign(r)) if np.isinf(r) else _RESIDUAL[operation](Fraction(float(r)), *map(Fraction, operands))
            result[i] = _step(r, error, rounding)
            if rounding is Rounding.DOWN and r == 0 and error == 0 and _cancels(operation, operands):
                result[i] = -0.0
    return result


def _step(nearest: Any, error: Fraction | int, rounding: Rounding) -> Any:
    """The neighbour of the nearest value on the side that the mode asks for, where the exact value lies on that side."""
    infinity = nearest.dtype.type(math.inf)
    is_negative = bool(np.signbit(nearest))
    if rounding is Rounding.UP or (rounding is Rounding.TOWARD_ZERO and is_negative):
        return np.nextafter(nearest, infinity) if error > 0 else nearest
    return np.nextafter(nearest, -infinity) if error < 0 else nearest


def _meaning(operation: IeeeOperation, rounding: Rounding) -> Callable[..., Array]:
    def meaning(*arrays: Any) -> Array:
        given = [np.asarray(a) for a in arrays]
        narrow = given[0].dtype
        if narrow not in (np.float32, np.float64):
            given = [a.astype(np.float32) for a in given]
        with np.errstate(all="ignore"):
            return _rounded(operation, rounding, *given).reshape(np.broadcast_shapes(*(a.shape for a in given))).astype(narrow)

    return meaning


def _intrinsic(operation: IeeeOperation, rounding: Rounding) -> Intrinsic:
    name = f"ieee_{operation.value}_{rounding.value}"
    allowed: tuple[str, ...] = ("float32", "float64") if rounding is not Rounding.NEAREST_EVEN else ("float16", "bfloat16", "float32", "float64")
    if operation is IeeeOperation.RECIPROCAL_SQUARE_ROOT:
        allowed = ("float32",)
    return Intrinsic(name, _ARITY.get(operation, 2), one_of(name, *allowed), _meaning(operation, rounding))


# What the language calls by name: operation and mode of each are needed again by the back ends.
IEEE_PARTS: dict[str, tuple[IeeeOperation, Rounding]] = {
    f"ieee_{operation.value}_{rounding.value}": (operation, rounding)
    for operation in IeeeOperation
    for rounding in Rounding
    if rounding is Rounding.NEAREST_EVEN or operation is not IeeeOperation.RECIPROCAL_SQUARE_ROOT
}
IEEE: dict[str, Intrinsic] = {name: _intrinsic(*parts) for name, parts in IEEE_PARTS.items()}
