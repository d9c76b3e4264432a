"""Element types inside a task (floor 6): `convert` and `math`, asked with the task's function and features."""

from __future__ import annotations

import numpy as np

from tilewright.codegen.float_format import is_symmetric
from tilewright.codegen.llvm import convert
from tilewright.codegen.llvm.emitter import Value, constant
from tilewright.codegen.llvm.math import emit_intrinsic, rounding
from tilewright.codegen.llvm.task import Operand, Task
from tilewright.codegen.llvm.term import Scope
from tilewright.dtypes import DType
from tilewright.errors import CompilerBug
from tilewright.ir.expr import Rounding
from tilewright.ir.intrinsic import Intrinsic

register_type = convert.register_type
memory_type = convert.storage_type


def from_memory(task: Task, raw: Value, dtype: DType) -> Value:
    return convert.from_storage(task.f, raw, dtype, task.target.features)


def to_memory(task: Task, value: Operand, dtype: DType) -> Value:
    return convert.to_storage(task.f, value if isinstance(value, Value) else task.widened(value), dtype, task.target.features)


def stored_constant(number: float, dtype: DType) -> Value:
    """A constant of a narrow float in its storage form."""
    bits = np.array(number, np.float32).astype(dtype.numpy).view(np.uint16 if dtype.bits == 16 else np.uint8)
    return constant(int(bits), memory_type(dtype))


def cast(task: Task, value: Value, source: DType, target: DType, rounding: Rounding) -> Value:
    return convert.convert(task.f, value, source, target, task.target.features, rounding)


def rounded(task: Task, value: Value, dtype: DType) -> Value:
    """The result of a float operation in its dtype."""
    return value if dtype.bits >= 32 else convert.round_to(task.f, value, dtype, task.target.features)


def negated(task: Task, value: Value, dtype: DType) -> Value:
    """-x of floats. A dtype without a negative zero, or without negative numbers, needs the result rounded like any other."""
    flipped = task.f.emit(value.type, f"fneg {value}")
    return flipped if is_symmetric(dtype) else rounded(task, flipped, dtype)


def wrapped(task: Task, value: Value, dtype: DType) -> Value:
    """The result of an integer operation in its dtype: only 4-bit integers are narrower than their registers."""
    if not dtype.is_packed:
        return value
    if not dtype.is_signed:
        return task.f.binary("and", value, constant(15, value.type))
    four = constant(4, value.type)
    return task.f.binary("ashr", task.f.binary("shl", value, four), four)


def whole(task: Task, value: Value, *, is_floor: bool) -> Value:
    """floor or truncation of a float."""
    return (rounding.floor if is_floor else rounding.trunc)(Scope(task.f, task.target.features)(value)).value


def reinterpret(task: Task, value: Value, source: DType, target: DType) -> Value:
    """The bits of one dtype as another of equal width."""
    if source.lanes > 1 or target.lanes > 1:
        raise CompilerBug(f"{source!s} cannot be looked at as {target!s} here")
    raw = to_memory(task, value, source)
    type_ = raw.type.replace(raw.element, memory_type(target))
    return from_memory(task, task.f.convert("bitcast", raw, type_), target)


def as_slot(task: Task, value: Value, dtype: DType) -> Value:
    """A scalar as 8 bytes for the host: integers extended, floats of up to 32 bits as float32 in the low half."""
    f = task.f
    if dtype.is_float:
        bits = f.convert("bitcast", value, "i64" if value.type == "double" else "i32")
        return f.convert("zext", bits, "i64")
    return f.convert("sext" if dtype.is_integer and dtype.is_signed else "zext", value, "i64")


def call(task: Task, intrinsic: Intrinsic, arguments: list[Value], dtypes: tuple[DType, ...]) -> Value:
    return emit_intrinsic(task.f, intrinsic, arguments, dtypes, task.target.features)
