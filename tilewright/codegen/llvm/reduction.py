"""Identities of reductions, and the lanes of a vector reduced to one value (floor 6)."""

from __future__ import annotations

import math

from tilewright.codegen.llvm.convert import register_type
from tilewright.codegen.llvm.emitter import Function, Value, constant
from tilewright.dtypes import DType
from tilewright.ir.stmt import ReduceKind

_BITWISE = {ReduceKind.BIT_AND: "and", ReduceKind.BIT_OR: "or", ReduceKind.BIT_XOR: "xor"}


def identity_of(kind: ReduceKind, dtype: DType, lanes: int) -> Value:
    """What changes nothing when it is combined, in every lane."""
    type_ = register_type(dtype, lanes)
    match kind:
        case ReduceKind.MAX | ReduceKind.MIN if dtype.is_float:
            return constant(-math.inf if kind is ReduceKind.MAX else math.inf, type_)
        case ReduceKind.MAX:
            return constant(int(dtype.minimum), type_)
        case ReduceKind.MIN:
            return constant(int(dtype.maximum), type_)
        case ReduceKind.BIT_AND:
            return constant(True if dtype.is_bool else -1, type_)
    return constant(0, type_)


def reduce_lanes(f: Function, kind: ReduceKind, dtype: DType, vector: Value) -> Value:
    """All lanes combined, in any order; the lanes of a float maximum or minimum are not NaN."""
    if vector.lanes == 1:
        return vector
    element = vector.element
    if kind is ReduceKind.SUM and dtype.is_float:
        name = f"llvm.vector.reduce.fadd.{vector.overload}"
        f.module.declare(name, element, [element, vector.type])
        return f.emit(element, f"call reassoc {element} @{name}({constant(-0.0, element)}, {vector})")
    if dtype.is_float:
        name = f"llvm.vector.reduce.{'fmax' if kind is ReduceKind.MAX else 'fmin'}.{vector.overload}"
        f.module.declare(name, element, [vector.type])
        return f.emit(element, f"call nnan {element} @{name}({vector})")
    if kind in (ReduceKind.MAX, ReduceKind.MIN):
        operation = (
            _BITWISE[ReduceKind.BIT_OR if kind is ReduceKind.MAX else ReduceKind.BIT_AND] if dtype.is_bool else ("s" if dtype.is_signed else "u") + kind.value
        )
    else:
        operation = "add" if kind is ReduceKind.SUM else _BITWISE[kind]
    return f.intrinsic(f"llvm.vector.reduce.{operation}.{vector.overload}", element, vector)
