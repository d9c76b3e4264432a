"""Which dtypes a function takes, and the dtype of its result (floor 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from tilewright import dtypes
from tilewright.dtypes import DType
from tilewright.errors import Kind, fail
from tilewright.spans import span_of_caller

Signature = Callable[[tuple[DType, ...]], DType]


def _refuse(name: str, kinds: tuple[DType, ...], takes: str) -> NoReturn:
    given = " and ".join(str(kind) for kind in kinds)
    fail(Kind.MATH_DTYPE, f"T.{name} got {given}", span_of_caller(), because=f"it takes {takes}", help="convert the arguments with T.cast")


def same_float(name: str) -> Signature:
    """Floats of one dtype, any width; the result has that dtype."""

    def result(kinds: tuple[DType, ...]) -> DType:
        if not kinds[0].is_float or any(kind != kinds[0] for kind in kinds):
            _refuse(name, kinds, "floats of one dtype")
        return kinds[0]

    return result


def one_of(name: str, *allowed: str) -> Signature:
    """Floats of one dtype, which must be among those named; the result has that dtype."""

    def result(kinds: tuple[DType, ...]) -> DType:
        if kinds[0].scalar not in allowed or any(kind != kinds[0] for kind in kinds):
            _refuse(name, kinds, f"arguments of one dtype, out of {', '.join(allowed)}")
        return kinds[0]

    return result


def float_to_bool(name: str) -> Signature:
    def result(kinds: tuple[DType, ...]) -> DType:
        if not kinds[0].is_float:
            _refuse(name, kinds, "a float")
        return dtypes.bool_.with_lanes(kinds[0].lanes)

    return result


def float_and_exponent(name: str) -> Signature:
    """A float and an int32; the result is the float's dtype."""

    def result(kinds: tuple[DType, ...]) -> DType:
        if not kinds[0].is_float or kinds[1].scalar != "int32":
            _refuse(name, kinds, "a float and an int32")
        return kinds[0]

    return result


def integer(name: str, is_int32: bool) -> Signature:
    """Any integer; the result is int32, or the argument's dtype."""

    def result(kinds: tuple[DType, ...]) -> DType:
        if not kinds[0].is_integer:
            _refuse(name, kinds, "an integer")
        return dtypes.int32.with_lanes(kinds[0].lanes) if is_int32 else kinds[0]

    return result
