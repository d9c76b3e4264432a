"""LLVM code for the functions of `tilewright.intrin.math`: inlined, for scalars and vectors, with no library behind it (floor 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilewright.codegen.llvm.convert import round_to
from tilewright.codegen.llvm.emitter import Function, Value
from tilewright.codegen.llvm.math import (
    error_function,
    exponential,
    hyperbolic,
    ieee,
    inverse_trigonometric,
    logarithm,
    power,
    remainder,
    representation,
    rounding,
    trigonometric,
)
from tilewright.codegen.llvm.term import Scope, Term, through_double
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.intrin.ieee import IEEE_PARTS
from tilewright.intrin.math import FAST, MATH
from tilewright.ir.intrinsic import Intrinsic
from tilewright.target.cpu import Feature

# Functions of floats: written once, for float and double terms alike.
_OF_FLOATS: dict[str, Callable[..., Term]] = {
    "exp": exponential.exp,
    "exp2": exponential.exp2,
    "exp10": exponential.exp10,
    "log": logarithm.log,
    "log2": logarithm.log2,
    "log10": logarithm.log10,
    "log1p": logarithm.log1p,
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
    "tan": trigonometric.tan,
    "asin": through_double(inverse_trigonometric.asin),
    "acos": through_double(inverse_trigonometric.acos),
    "atan": through_double(inverse_trigonometric.atan),
    "atan2": through_double(inverse_trigonometric.atan2),
    "sinh": through_double(hyperbolic.sinh),
    "cosh": through_double(hyperbolic.cosh),
    "tanh": hyperbolic.tanh,
    "asinh": through_double(hyperbolic.asinh),
    "acosh": through_double(hyperbolic.acosh),
    "atanh": through_double(hyperbolic.atanh),
    "sqrt": power.sqrt,
    "rsqrt": power.rsqrt,
    "hypot": through_double(power.hypot),
    "pow": power.pow,
    "fmod": remainder.fmod,
    "erf": error_function.erf,
    "sigmoid": exponential.sigmoid,
    "floor": rounding.floor,
    "ceil": rounding.ceil,
    "trunc": rounding.trunc,
    "round": rounding.round_even,
    "nearbyint": rounding.round_even,
    "round_away": rounding.round_away,
    "copysign": representation.copysign,
    "ldexp": representation.ldexp,
    "fma": ieee.fma,
    "isnan": representation.is_nan,
    "isinf": representation.is_infinite,
    "isfinite": representation.is_finite,
}
# Functions that must know the dtype, not only its value form.
_OF_DTYPE: dict[str, Callable[..., Term]] = {
    "nextafter": representation.nextafter,
    "popcount": representation.popcount,
    "clz": representation.count_leading_zeros,
}

_EMITTERS: dict[Intrinsic, Callable[..., Term]] = {MATH[name]: function for name, function in (_OF_FLOATS | _OF_DTYPE).items()}
_EMITTERS |= {MATH[name]: lambda *terms, parts=parts: ieee.ieee(*parts, *terms) for name, parts in IEEE_PARTS.items()}
_EMITTERS |= {intrinsic: _OF_FLOATS[name] for name, intrinsic in FAST.items()}
_NEEDS_DTYPE = frozenset(MATH[name] for name in _OF_DTYPE)


def emit_intrinsic(f: Function, intrinsic: Intrinsic, arguments: Sequence[Value], dtypes: Sequence[DType], features: frozenset[Feature]) -> Value:
    """The call `intrinsic(*arguments)`. Arguments and result are value forms (`codegen.llvm.convert`); `dtypes` are those of the arguments.

    Functions of narrow floats are computed as float32 and rounded to their dtype.
    """
    emitter = _EMITTERS.get(intrinsic)
    if emitter is None:
        raise CompilerBug(f"{intrinsic!r} has no LLVM code")
    scope = Scope(f, features)
    terms = [scope(value) for value in arguments]
    result = emitter(*terms, dtypes[0].scalar) if intrinsic in _NEEDS_DTYPE else emitter(*terms)
    dtype = intrinsic.result(tuple(dtypes)).scalar
    if dtype.is_float and dtype.bits < 32:
        return round_to(f, result.value, dtype, features)
    return result.value
