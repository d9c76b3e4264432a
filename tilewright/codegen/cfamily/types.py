"""C types of elements, in registers and in memory, and literals of them (floor 6).

Values in flight ("value form"):

    bool                     bool
    intN, uintN (N >= 8)     the C type of that width; 64 bits are `long long`
    int4, uint4              signed char, unsigned char, sign- or zero-extended
    float64                  double
    every other float        float, already rounded to its dtype

Memory and arrays hold the "storage form": the dtype's own bits as an unsigned integer for bool and floats below 32 bits, else as in registers. Elements of
4 bits lie two to a byte, the one at the even index in the low half; in memory of every
scope. Those of 6 bits take a byte each.
"""

from __future__ import annotations

import math

import numpy as np

from tilewright.codegen.cfamily.text import ATOM, UNARY, Text
from tilewright.dtypes import DType, DTypeKind
from tilewright.errors import Kind, Span, fail

_SIGNED = {8: "signed char", 16: "short", 32: "int", 64: "long long"}
_UNSIGNED = {8: "unsigned char", 16: "unsigned short", 32: "unsigned", 64: "unsigned long long"}
_SUFFIX = {("int", 64): "ll", ("uint", 32): "u", ("uint", 64): "ull"}
_INT32_MINIMUM, _INT64_MINIMUM = -(1 << 31), -(1 << 63)


def value_type(dtype: DType) -> str:
    """The C type of values in flight."""
    if dtype.is_bool:
        return "bool"
    if dtype.is_float:
        return "double" if dtype.bits == 64 else "float"
    return integer_type(dtype.bits, is_signed=dtype.is_signed)


def storage_type(dtype: DType) -> str:
    """The C type of elements in memory; of the byte that holds two of them for 4-bit dtypes."""
    if dtype.is_packed or dtype.is_bool:
        return "unsigned char"
    if dtype.is_float and dtype.bits < 32:
        return integer_type(dtype.bits, is_signed=False)
    return value_type(dtype)


def assembly_operand(dtype: DType) -> tuple[str, str]:
    """The letter of the register class of inline assembly that holds a dtype, and the C type of such registers: bytes go in registers of 32 bits.

    Source: NVIDIA "Inline PTX Assembly in CUDA", constraints.
    """
    if dtype.is_float and dtype.bits >= 32:
        return ("d", "double") if dtype.bits == 64 else ("f", "float")
    bits = max(dtype.storage_bits, 32) if dtype.storage_bits != 16 else 16
    letter = {16: "h", 32: "r", 64: "l"}[bits]
    return letter, integer_type(bits, is_signed=dtype.is_integer and dtype.is_signed)


def integer_type(bits: int, *, is_signed: bool) -> str:
    """The C type of integers of so many bits, or of the byte that holds fewer."""
    return (_SIGNED if is_signed else _UNSIGNED)[max(8, bits)]


def is_coded(dtype: DType) -> bool:
    """Whether the storage form of a float differs from its value form."""
    return dtype.is_float and dtype.bits < 32


def literal(value: bool | int | float, dtype: DType) -> Text:
    """A constant in value form."""
    if dtype.is_bool:
        return Text("true" if value else "false", ATOM)
    if dtype.is_float:
        return float_literal(float(value), is_double=dtype.bits == 64)
    return integer_literal(int(value), 64 if dtype.bits == 64 else 32, is_signed=dtype.kind is DTypeKind.INT or dtype.bits < 32)


def integer_literal(value: int, bits: int = 32, *, is_signed: bool = True) -> Text:
    suffix = _SUFFIX.get(("int" if is_signed else "uint", bits), "")
    if is_signed and value == (_INT32_MINIMUM if bits == 32 else _INT64_MINIMUM):
        return Text(f"(-{-(value + 1)}{suffix} - 1)", ATOM)  # C has no negative literals, and the number without its sign does not fit
    return Text(f"{value}{suffix}", ATOM if value >= 0 else UNARY)


def float_literal(value: float, *, is_double: bool) -> Text:
    """The shortest decimal text that gives exactly the value."""
    if math.isnan(value):
        return Text("__longlong_as_double(0x7ff8000000000000ll)" if is_double else "__int_as_float(0x7fc00000)", ATOM)
    if math.isinf(value):
        sign = "-" if value < 0 else ""
        return Text(sign + ("__longlong_as_double(0x7ff0000000000000ll)" if is_double else "__int_as_float(0x7f800000)"), UNARY if sign else ATOM)
    text = repr(value) if is_double else np.format_float_positional(np.float32(value), trim="0") if 1e-4 <= abs(value) < 1e9 else str(np.float32(value))
    if "." not in text and "e" not in text:
        text += ".0"
    return Text(text if is_double else f"{text}f", UNARY if text.startswith("-") else ATOM)


def stored_literal(value: float, dtype: DType) -> Text:
    """A constant of a float below 32 bits in storage form."""
    bits = np.array(value, np.float32).astype(dtype.numpy).view(np.uint16 if dtype.bits == 16 else np.uint8)
    return Text(f"{int(bits):#x}", ATOM)


def refuse_vector_dtype(owner: object, dtype: DType, span: Span | None = None) -> None:
    """A diagnostic where a value or a buffer (`owner`) has a dtype of several lanes."""
    if dtype.lanes > 1:
        what = getattr(owner, "name", None) if span is not None else f"`{owner}`"
        fail(
            Kind.DTYPE_UNSUPPORTED,
            f"{what} is {dtype!s}, which code for a GPU cannot handle",
            span,
            because="values of one lane are computed there; wide accesses and packed instructions are found by the compiler",
            help=f"use {dtype.scalar!s} and one more dimension of {dtype.lanes}",
        )
