"""Values of several lanes in the language (floor 5; language.md 8.3): built, rearranged, and combined lane by lane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilewright.dtypes import LANE_COUNTS
from tilewright.errors import Kind, fail
from tilewright.intrin.math import MATH
from tilewright.ir.expr import Expr, as_expr, as_integer, call, cast, describe_operand, maximum, minimum
from tilewright.ir.lanes import broadcast, extract_lane, pack_lanes, split_value
from tilewright.spans import span_of_caller

_PAIRS = ("float32x2", "float16x2", "bfloat16x2")


def _lane_count(lanes: Any, name: str) -> int:
    number = as_integer(lanes.value if isinstance(lanes, Expr) and lanes.is_const else lanes)
    if number is None or number not in LANE_COUNTS:
        fail(
            Kind.OPERAND,
            f"the lanes of T.{name} are {describe_operand(lanes)}",
            span_of_caller(),
            because=f"a vector dtype has {', '.join(map(str, LANE_COUNTS))} lanes",
            help=f"write for example T.{name}(..., 4)",
        )
    return number


def Broadcast(value: Any, lanes: Any) -> Expr:
    """One value in all of that many lanes."""
    scalar = _scalar(value, "Broadcast")
    return broadcast(scalar, scalar.dtype.with_lanes(_lane_count(lanes, "Broadcast")))


def Ramp(base: Any, stride: Any, lanes: Any) -> Expr:
    """base, base + stride, base + 2 * stride, ... As an index it means that many elements at once."""
    first, step = _scalar(base, "Ramp"), _scalar(stride, "Ramp")
    return pack_lanes([cast(first + step * lane, first.dtype) for lane in range(_lane_count(lanes, "Ramp"))])


def Shuffle(vectors: Any, indices: Any) -> Expr:
    """The lanes of all the vectors, one after the other, in the order that the indices name; one index gives a scalar.

    Raises TileError (operand) for an index that is no lane, and where the vectors have different dtypes.
    """
    values = [as_expr(v) for v in (vectors if isinstance(vectors, (list, tuple)) else [vectors])]
    lanes = [lane for value in values for lane in split_value(value)]
    if not lanes or any(lane.dtype != lanes[0].dtype for lane in lanes):
        fail(
            Kind.OPERAND,
            f"T.Shuffle was given {', '.join(str(v.dtype) for v in values) or 'no vector'}",
            span_of_caller(),
            because="its result has one dtype, that of all its lanes",
            help="convert the vectors to one dtype with T.cast",
        )
    order = [as_integer(i.value if isinstance(i, Expr) and i.is_const else i) for i in (indices if isinstance(indices, (list, tuple)) else [indices])]
    wrong = [i for i in order if i is None or not 0 <= i < len(lanes)]
    if wrong or not order:
        fail(
            Kind.OPERAND,
            f"T.Shuffle was given the lane {wrong[0] if wrong and wrong[0] is not None else 'numbers of the running kernel' if wrong else 'numbers []'}",
            span_of_caller(),
            because=f"the lanes are counted from 0 to {len(lanes) - 1}, and known when the kernel is traced",
            help="give a list of ints in this range",
        )
    return pack_lanes([lanes[i] for i in order if i is not None])


def _scalar(value: Any, name: str) -> Expr:
    made = as_expr(value)
    if made.dtype.lanes > 1:
        fail(Kind.OPERAND, f"T.{name} was given `{made}`, which is {made.dtype!s}", span_of_caller(), because="it starts from one value", help="give a scalar")
    return made


def _pairwise(name: str, arity: int, function: Callable[..., Expr]) -> Callable[..., Expr]:
    def pairwise(*operands: Any) -> Expr:
        values = [as_expr(o) for o in operands]
        if len(values) != arity or any(v.dtype not in _PAIRS or v.dtype != values[0].dtype for v in values):
            fail(
                Kind.OPERAND,
                f"T.{name} was given {', '.join(str(v.dtype) for v in values) or 'nothing'}",
                span_of_caller(),
                because=f"it takes {arity} pair{'s' * (arity != 1)} of one dtype: {', '.join(_PAIRS)}",
                help="pack two values, as in T.float32x2(a, b)",
            )
        return function(*values)

    pairwise.__name__ = pairwise.__qualname__ = name
    pairwise.__doc__ = f"`{name[:-1]}` of both lanes of pairs of floats."
    return pairwise


add2 = _pairwise("add2", 2, lambda a, b: a + b)
sub2 = _pairwise("sub2", 2, lambda a, b: a - b)
mul2 = _pairwise("mul2", 2, lambda a, b: a * b)
fma2 = _pairwise("fma2", 3, lambda a, b, c: call(MATH["fma"], a, b, c))
max2 = _pairwise("max2", 2, maximum)
min2 = _pairwise("min2", 2, minimum)
abs2 = _pairwise("abs2", 1, abs)

__all__ = ["Broadcast", "Ramp", "Shuffle", "abs2", "add2", "extract_lane", "fma2", "max2", "min2", "mul2", "sub2"]
