"""The meaning of expressions, computed with numpy (floor 3): what every back end must reproduce.

A value is an array of exactly the node's numpy dtype, broadcast against all others; a vector dtype has its lanes as one more, last axis.
Each operation rounds to the dtype of its node: floats narrower than 32 bits are computed in float32 and rounded back. Integers wrap, `//` and
`%` floor, `min` and `max` pass over NaN. `if_then_else`, `and` and `or` are lazy lane by lane: what is not taken is not loaded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import COMPARISONS, LOGICAL, Expr, Op, Rounding
from tilewright.ir.intrinsic import Intrinsic

Array = npt.NDArray[Any]
Loader = Callable[[Buffer, tuple[Array, ...], Array], Array]
Caller = Callable[[Intrinsic, tuple[Array, ...], Array], Array]

_LAZY = frozenset({Op.IF_THEN_ELSE, Op.AND, Op.OR})


def evaluate(expr: Expr, values: Mapping[Expr, Any], load: Loader, *, call: Caller | None = None, mask: Any = True) -> Array:
    """The value of `expr` for every lane; an array of `expr.dtype.numpy` that may share memory with the inputs.

    values  an array or a scalar for each variable, converted to the variable's dtype.
    load    load(buffer, indices, mask) gives the elements; indices and mask broadcast against each other, and where the mask is False the
            indices may lie anywhere and the element is ignored. It is not called where no lane is taken.
    call    replaces the intrinsics' own `meaning`, with the mask of the lanes that make the call.
    mask    the lanes that take part at all.
    Raises: CompilerBug for a variable without a value and for a loader that gives another dtype.
    """
    if expr.op is Op.CONST:
        return _constant(expr)
    with np.errstate(all="ignore"):
        return _Evaluation(values, load, call or _call_meaning).value_of(expr, _Scope(np.asarray(mask, np.bool_), None))


def _call_meaning(intrinsic: Intrinsic, args: tuple[Array, ...], mask: Array) -> Array:
    return np.asarray(intrinsic.meaning(*args))


class _Scope:
    """The values known under one mask; what holds under a wider mask holds here as well."""

    __slots__ = ("known", "mask", "outer")

    def __init__(self, mask: Array, outer: _Scope | None) -> None:
        self.mask, self.outer, self.known = mask, outer, dict[Expr, Array]()

    def find(self, node: Expr) -> Array | None:
        scope: _Scope | None = self
        while scope is not None:
            found = scope.known.get(node)
            if found is not None:
                return found
            scope = scope.outer
        return None

    def narrowed(self, condition: Array) -> _Scope | None:
        """The scope of the lanes where the condition holds too; None where there are none."""
        mask = self.mask & condition
        return _Scope(mask, self) if mask.any() else None


class _Evaluation:
    def __init__(self, values: Mapping[Expr, Any], load: Loader, call: Caller) -> None:
        self.values, self.load, self.call = values, load, call

    def value_of(self, root: Expr, scope: _Scope) -> Array:
        # An explicit stack: unrolled kernels give expressions deeper than Python's recursion limit.
        stack = [root]
        while stack:
            node = stack[-1]
            if scope.find(node) is not None:
                stack.pop()
                continue
            eager = node.args[:1] if node.op in _LAZY else node.args
            waiting = [a for a in eager if scope.find(a) is None]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            stack.pop()
            operands = [found for a in eager if (found := scope.find(a)) is not None]
            scope.known[node] = self._compute(node, operands, scope)
        result = scope.find(root)
        assert result is not None
        return result

    def _compute(self, node: Expr, operands: list[Array], scope: _Scope) -> Array:
        match node.op:
            case Op.CONST:
                return _constant(node)
            case Op.VAR:
                if node not in self.values:
                    raise CompilerBug(f"the variable {node.name} has no value")
                return np.asarray(self.values[node]).astype(node.dtype.numpy, copy=False)
            case Op.LOAD:
                return self._load(node.buffer, tuple(operands), scope.mask)
            case Op.CALL:
                result = np.asarray(self.call(node.attribute, tuple(operands), scope.mask))
                return result if result.dtype == node.dtype.numpy else _rounded(result, node.dtype)
            case Op.AND | Op.OR:
                return self._logical(node, operands[0], scope)
            case Op.IF_THEN_ELSE:
                return self._if_then_else(node, operands[0], scope)
            case Op.CAST:
                converted = convert(operands[0], node.args[0].dtype, node.dtype, node.attribute)
                return _broadcast_lanes(converted, node.dtype.lanes) if node.args[0].dtype.lanes == 1 else converted
            case Op.REINTERPRET:
                return reinterpret(operands[0], node.args[0].dtype, node.dtype)
            case Op.SELECT:
                return np.where(_per_lane(node, operands[0]), operands[1], operands[2])
            case _:
                return apply(node.op, node.args[0].dtype, operands)

    def _load(self, buffer: Buffer, indices: tuple[Array, ...], mask: Array) -> Array:
        if not mask.any():
            return _zero(buffer.dtype)
        found = np.asarray(self.load(buffer, indices, mask))
        if found.dtype != buffer.dtype.numpy:
            raise CompilerBug(f"a load of {buffer.name} gave {found.dtype}, its elements are {buffer.dtype!s}")
        return found

    def _logical(self, node: Expr, left: Array, scope: _Scope) -> Array:
        inner = scope.narrowed(left if node.op is Op.AND else ~left)
        if inner is None:
            return left
        right = self.value_of(node.args[1], inner)
        return np.asarray(left & right if node.op is Op.AND else left | right)

    def _if_then_else(self, node: Expr, condition: Array, scope: _Scope) -> Array:
        sides = []
        for side, taken in ((node.args[1], condition), (node.args[2], ~condition)):
            inner = scope.narrowed(taken)
            sides.append(_zero(node.dtype) if inner is None else self.value_of(side, inner))
        return np.where(_per_lane(node, condition), *sides)


@functools.lru_cache(maxsize=4096)
def _constant(node: Expr) -> Array:
    """The value of a constant, which nobody may change."""
    with np.errstate(all="ignore"):
        made = np.asarray(node.value, np.float64 if node.dtype.is_float else None).astype(node.dtype.numpy)
    made.flags.writeable = False
    return _broadcast_lanes(made, node.dtype.lanes)


def _broadcast_lanes(array: Array, lanes: int) -> Array:
    return array if lanes == 1 else np.broadcast_to(array[..., None], (*array.shape, lanes))


def _zero(dtype: DType) -> Array:
    return _broadcast_lanes(np.zeros((), dtype.numpy), dtype.lanes)


def _per_lane(node: Expr, condition: Array) -> Array:
    """The condition of a select, shaped to broadcast with the node's lanes."""
    return condition[..., None] if node.dtype.lanes > 1 and node.args[0].dtype.lanes == 1 else condition


def apply(op: Op, dtype: DType, operands: Sequence[Array]) -> Array:
    """One arithmetic, bitwise, comparison or logical operation on arrays of `dtype`; comparisons give bool, everything else `dtype`."""
    if op in LOGICAL or (op not in COMPARISONS and dtype.is_bool):
        return np.asarray(_ON_BOOLS[op](*operands))
    wide = [a.astype(storage, copy=False) for a in operands] if (storage := _computing_dtype(dtype)) != dtype.numpy else operands
    if op in COMPARISONS:
        return np.asarray(_COMPARE[op](*wide))
    result = np.asarray((_ON_FLOATS if dtype.is_float else _ON_INTEGERS)[op](*wide))
    return result if result.dtype == dtype.numpy else _rounded(result, dtype)


def exact_operation(op: Op, dtype: DType) -> Callable[..., Any] | None:
    """The numpy function that alone is `apply` on arrays of `dtype`; None where `apply` also widens and rounds."""
    if op in LOGICAL or (op not in COMPARISONS and dtype.is_bool):
        return _ON_BOOLS[op]
    if _computing_dtype(dtype) != dtype.numpy:
        return None
    return (_COMPARE if op in COMPARISONS else _ON_FLOATS if dtype.is_float else _ON_INTEGERS)[op]


def _computing_dtype(dtype: DType) -> np.dtype[Any]:
    """The numpy type in which one operation is done, before it is rounded."""
    if dtype.is_float and dtype.bits < 32:
        return np.dtype(np.float32)
    if dtype.is_packed:
        return np.dtype(np.int8 if dtype.is_signed else np.uint8)
    return dtype.numpy


def _rounded(array: Array, dtype: DType) -> Array:
    """An array of a computing dtype in `dtype`: floats to nearest even, integers by wrapping."""
    if dtype.is_float:
        return array.astype(np.float32, copy=False).astype(dtype.numpy) if dtype.bits < 32 else array.astype(dtype.numpy, copy=False)
    if dtype.is_packed:
        nibble = array.astype(np.int8) & np.int8(15)
        return (((nibble ^ np.int8(8)) - np.int8(8)) if dtype.is_signed else nibble.view(np.uint8)).astype(dtype.numpy)
    return array.astype(dtype.numpy)


def convert(array: Array, source: DType, target: DType, rounding: Rounding = Rounding.NEAREST_EVEN) -> Array:
    """Elements of `source` as elements of `target` (lanes aside).

    Floats to integers truncate, saturate out of range and turn NaN into 0; integers wrap; to bool means `!= 0`. Conversions to floats narrower
    than 32 bits go through float32. `rounding` counts for float targets only.
    """
    if source.scalar == target.scalar:
        return array
    wide = array.astype(_computing_dtype(source), copy=False)
    if target.is_bool:
        return np.asarray(wide != 0)
    if target.is_float:
        nearest = _rounded(wide, target)
        return nearest if rounding is Rounding.NEAREST_EVEN else _direct(wide.astype(np.float64), nearest, target, rounding)
    return _truncated(wide, target) if source.is_float else _rounded(wide, target)


def _direct(exact: Array, nearest: Array, target: DType, rounding: Rounding) -> Array:
    """Moves a nearest rounding one step where it went against the wanted direction; towards zero, finite values stop at the last finite one."""
    toward_low = np.full(exact.shape, rounding is Rounding.DOWN) if rounding is not Rounding.TOWARD_ZERO else exact > 0
    toward_high = np.full(exact.shape, rounding is Rounding.UP) if rounding is not Rounding.TOWARD_ZERO else exact < 0
    low, high = (np.asarray(limit, np.float64).astype(target.numpy) for limit in (target.minimum, target.maximum))
    beyond = np.isfinite(exact) & ~np.isfinite(nearest.astype(np.float64))
    result = np.where(beyond & toward_low & (exact > 0), high, np.where(beyond & toward_high & (exact < 0), low, nearest))
    value = result.astype(np.float64)
    above, below = (np.asarray(limit, np.float64).astype(target.numpy) for limit in (np.inf, -np.inf))  # infinity, NaN, or where there is neither the limit
    result = np.where(toward_low & (value > exact), np.where(result == low, below, np.nextafter(result, low)), result)
    return np.asarray(np.where(toward_high & (value < exact), np.where(result == high, above, np.nextafter(result, high)), result))


def _truncated(array: Array, target: DType) -> Array:
    whole = np.trunc(array.astype(np.float64))
    low, high = int(target.minimum), int(target.maximum)
    # high + 1 is a power of two, so exact in float64 where the greatest 64-bit integer is not.
    in_range = (whole >= low) & (whole < float(high + 1))
    wide = np.where(in_range, whole, 0).astype(np.uint64 if low == 0 else np.int64)
    wide = np.where(whole >= float(high + 1), wide.dtype.type(high), np.where(whole < low, wide.dtype.type(low), wide))
    return _rounded(wide, target)


def reinterpret(array: Array, source: DType, target: DType) -> Array:
    """The same bits as another dtype of equal width; lanes lie in little-endian order, the first lane lowest."""
    raw = np.ascontiguousarray(array if source.lanes > 1 else array[..., None])
    if source.is_packed and not target.is_packed:
        nibbles = raw.view(np.uint8) & np.uint8(15)
        raw = nibbles[..., 0::2] | nibbles[..., 1::2] << np.uint8(4)
    elif target.is_packed and not source.is_packed:
        octets = raw.view(np.uint8)
        raw = np.stack([octets & np.uint8(15), octets >> np.uint8(4)], axis=-1).reshape(*octets.shape[:-1], -1)
    viewed = np.ascontiguousarray(raw).view(target.numpy)
    return viewed if target.lanes > 1 else viewed[..., 0]


def _truncdiv(a: Array, b: Array) -> Array:
    return np.asarray(np.floor_divide(a - np.fmod(a, b), b))


_COMPARE: dict[Op, Callable[..., Any]] = {
    Op.EQ: np.equal,
    Op.NE: np.not_equal,
    Op.LT: np.less,
    Op.LE: np.less_equal,
    Op.GT: np.greater,
    Op.GE: np.greater_equal,
}
_ON_BOOLS: dict[Op, Callable[..., Any]] = {
    Op.AND: np.logical_and,
    Op.OR: np.logical_or,
    Op.NOT: np.logical_not,
    Op.BIT_XOR: np.logical_xor,
    Op.MIN: np.logical_and,
    Op.MAX: np.logical_or,
}
_ON_INTEGERS: dict[Op, Callable[..., Any]] = {
    Op.ADD: np.add,
    Op.SUB: np.subtract,
    Op.MUL: np.multiply,
    Op.FLOORDIV: np.floor_divide,
    Op.FLOORMOD: np.remainder,
    Op.TRUNCDIV: _truncdiv,
    Op.TRUNCMOD: np.fmod,
    Op.MIN: np.minimum,
    Op.MAX: np.maximum,
    Op.BIT_AND: np.bitwise_and,
    Op.BIT_OR: np.bitwise_or,
    Op.BIT_XOR: np.bitwise_xor,
    Op.SHIFT_LEFT: np.left_shift,
    Op.SHIFT_RIGHT: np.right_shift,
    Op.NEG: np.negative,
    Op.BIT_NOT: np.invert,
}
# The quotient of floats is rounded before it is floored, as compiled code does it.
_ON_FLOATS: dict[Op, Callable[..., Any]] = {
    Op.ADD: np.add,
    Op.SUB: np.subtract,
    Op.MUL: np.multiply,
    Op.DIV: np.divide,
    Op.MIN: np.fmin,
    Op.MAX: np.fmax,
    Op.NEG: np.negative,
    Op.FLOORDIV: lambda a, b: np.floor(a / b),
    Op.FLOORMOD: lambda a, b: a - np.floor(a / b) * b,
    Op.TRUNCDIV: lambda a, b: np.trunc(a / b),
    Op.TRUNCMOD: lambda a, b: a - np.trunc(a / b) * b,
}
