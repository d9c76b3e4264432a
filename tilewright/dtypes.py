"""Element types: names, widths, numpy views, value ranges and promotion (floor 0).

A `DType` is a `str`, as TileLang programs expect: `T.float16 == "float16"`, usable as dictionary key and in f-strings.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar

import ml_dtypes
import numpy as np


class DTypeKind(Enum):
    """What the bits of an element mean."""

    BOOL = "bool"
    INT = "int"
    UINT = "uint"
    FLOAT = "float"
    HANDLE = "handle"


class DType(str):
    """One element type, possibly with several lanes (`float16x2`).

    bits            width of one element in storage (1 for bool counts as 8 in memory: see `storage_bits`).
    exponent_bits, mantissa_bits   of floats; 0 for others. tfloat32 is stored as float32.
    numpy           the numpy dtype of one element; sub-byte types use ml_dtypes' one-byte form.
    """

    kind: DTypeKind
    bits: int
    lanes: int
    exponent_bits: int
    mantissa_bits: int
    numpy: np.dtype[Any]

    # Set once by tilewright.ir.typed_value, so that `T.float32(x)` can build an expression although floor 0 knows none.
    make_expression: ClassVar[Callable[..., Any]]

    def __new__(cls, name: str, kind: DTypeKind, bits: int, numpy_type: Any, exponent_bits: int = 0, mantissa_bits: int = 0, lanes: int = 1) -> DType:
        self = super().__new__(cls, name)
        self.kind, self.bits, self.lanes = kind, bits, lanes
        self.exponent_bits, self.mantissa_bits = exponent_bits, mantissa_bits
        self.numpy = np.dtype(numpy_type)
        return self

    def __call__(self, *values: Any) -> Any:
        """`T.float32(x)`: x converted to this type; `T.int32()`: a fresh variable; `T.float16x2(a, b)`: lanes packed."""
        return DType.make_expression(self, *values)

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (str(self),)

    def __repr__(self) -> str:
        return f"T.{self!s}"

    @property
    def is_float(self) -> bool:
        return self.kind is DTypeKind.FLOAT

    @property
    def is_integer(self) -> bool:
        return self.kind in (DTypeKind.INT, DTypeKind.UINT)

    @property
    def is_signed(self) -> bool:
        return self.kind in (DTypeKind.INT, DTypeKind.FLOAT)

    @property
    def is_bool(self) -> bool:
        return self.kind is DTypeKind.BOOL

    @property
    def is_packed(self) -> bool:
        """Two elements share a byte in memory (int4, uint4, float4_e2m1fn); the element at the even index is the low nibble."""
        return self.bits == 4

    @property
    def storage_bits(self) -> int:
        """Bits that one element takes in memory."""
        return max(self.bits, 8) * self.lanes if not self.is_packed else self.bits * self.lanes

    @property
    def itemsize(self) -> int:
        """Whole bytes that hold one element (1 for sub-byte types)."""
        return max(1, self.storage_bits // 8)

    bytes = itemsize

    @property
    def scalar(self) -> DType:
        """The type of one lane."""
        return self if self.lanes == 1 else as_dtype(str(self).rpartition("x")[0])

    def with_lanes(self, lanes: int) -> DType:
        return as_dtype(f"{self.scalar!s}x{lanes}") if lanes > 1 else self.scalar

    @property
    def minimum(self) -> int | float:
        """The lowest finite value."""
        if self.is_float:
            return float(ml_dtypes.finfo(self.numpy).min)  # type: ignore[no-untyped-call]
        if self.kind is DTypeKind.INT:
            return -(1 << (self.bits - 1))
        return 0

    @property
    def maximum(self) -> int | float:
        """The highest finite value."""
        if self.is_float:
            return float(ml_dtypes.finfo(self.numpy).max)  # type: ignore[no-untyped-call]
        if self.kind is DTypeKind.INT:
            return (1 << (self.bits - 1)) - 1
        return 1 if self.is_bool else (1 << self.bits) - 1

    @property
    def has_infinity(self) -> bool:
        if not self.is_float:
            return False
        with np.errstate(all="ignore"):
            return bool(np.isinf(np.array(np.inf, np.float32).astype(self.numpy).astype(np.float32)))

    def as_torch(self) -> Any:
        """The torch dtype of the same meaning (imports torch)."""
        import torch

        name = {"tfloat32": "float32", "int4": "int8", "uint4": "uint8", "float4_e2m1fn": "uint8"}.get(str(self), str(self))
        return getattr(torch, name)


def _table() -> dict[str, DType]:
    kinds = DTypeKind
    rows = [DType("bool", kinds.BOOL, 1, np.bool_), DType("handle", kinds.HANDLE, 64, np.uint64)]
    rows += [DType(f"int{n}", kinds.INT, n, f"int{n}") for n in (8, 16, 32, 64)]
    rows += [DType(f"uint{n}", kinds.UINT, n, f"uint{n}") for n in (8, 16, 32, 64)]
    rows += [DType("int4", kinds.INT, 4, ml_dtypes.int4), DType("uint4", kinds.UINT, 4, ml_dtypes.uint4)]
    floats = [
        ("float16", 16, np.float16, 5, 10),
        ("bfloat16", 16, ml_dtypes.bfloat16, 8, 7),
        ("float32", 32, np.float32, 8, 23),
        ("tfloat32", 32, np.float32, 8, 23),
        ("float64", 64, np.float64, 11, 52),
        ("float8_e3m4", 8, ml_dtypes.float8_e3m4, 3, 4),
        ("float8_e4m3", 8, ml_dtypes.float8_e4m3, 4, 3),
        ("float8_e4m3fn", 8, ml_dtypes.float8_e4m3fn, 4, 3),
        ("float8_e4m3fnuz", 8, ml_dtypes.float8_e4m3fnuz, 4, 3),
        ("float8_e4m3b11fnuz", 8, ml_dtypes.float8_e4m3b11fnuz, 4, 3),
        ("float8_e5m2", 8, ml_dtypes.float8_e5m2, 5, 2),
        ("float8_e5m2fnuz", 8, ml_dtypes.float8_e5m2fnuz, 5, 2),
        ("float8_e8m0fnu", 8, ml_dtypes.float8_e8m0fnu, 8, 0),
        ("float6_e2m3fn", 6, ml_dtypes.float6_e2m3fn, 2, 3),
        ("float6_e3m2fn", 6, ml_dtypes.float6_e3m2fn, 3, 2),
        ("float4_e2m1fn", 4, ml_dtypes.float4_e2m1fn, 2, 1),
    ]
    rows += [DType(name, kinds.FLOAT, bits, numpy_type, e, m) for name, bits, numpy_type, e, m in floats]
    return {str(row): row for row in rows}


_DTYPES = _table()
_ALIASES = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "uint": "uint32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp32": "float32",
    "tf32": "tfloat32",
}
_BY_NUMPY = {row.numpy: row for row in reversed(_DTYPES.values()) if row not in ("tfloat32", "handle")}
LANE_COUNTS = (2, 4, 8, 16, 32, 64)  # of vector dtypes
SCALAR_DTYPES: tuple[DType, ...] = tuple(_DTYPES.values())


def as_dtype(value: Any) -> DType:
    """The dtype meant by a name, a numpy or torch dtype, a Python type or a DType.

    Raises ValueError with the names that exist where the value means none.
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, str):
        found = _DTYPES.get(value) or _DTYPES.get(_ALIASES.get(value, "")) or vector_dtype(value)
        if found is not None:
            return found
        raise ValueError(f"there is no dtype {value!r}; known are {', '.join(_DTYPES)}")
    for python_type, name in ((bool, "bool"), (int, "int32"), (float, "float32")):
        if value is python_type:
            return _DTYPES[name]
    text = str(value)
    if text.startswith("torch."):
        name = text.removeprefix("torch.")
        if name in _DTYPES:
            return _DTYPES[name]
        raise ValueError(f"{text} has no counterpart among the dtypes {', '.join(_DTYPES)}")
    try:
        if isinstance(value, (np.dtype, type)):  # np.dtype() itself would take None as float64, and anything that has a dtype
            return _BY_NUMPY[np.dtype(value)]
        raise KeyError
    except (TypeError, KeyError):
        raise ValueError(f"{value!r} is not a dtype; known are {', '.join(_DTYPES)}") from None


def vector_dtype(name: str) -> DType | None:
    """The dtype of a name such as float16x2; None for other names."""
    base, cross, lanes = name.rpartition("x")
    if not cross or not lanes.isdecimal() or base not in _DTYPES or int(lanes) not in LANE_COUNTS:
        return None
    scalar = _DTYPES[base]
    made = DType(name, scalar.kind, scalar.bits, scalar.numpy, scalar.exponent_bits, scalar.mantissa_bits, int(lanes))
    return _DTYPES.setdefault(name, made)


bool_ = _DTYPES["bool"]
handle = _DTYPES["handle"]
int8, int16, int32, int64 = (_DTYPES[f"int{n}"] for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (_DTYPES[f"uint{n}"] for n in (8, 16, 32, 64))
int4, uint4 = _DTYPES["int4"], _DTYPES["uint4"]
float16, bfloat16, float32, float64 = (_DTYPES[n] for n in ("float16", "bfloat16", "float32", "float64"))
tfloat32 = _DTYPES["tfloat32"]


def promote(left: DType, right: DType) -> DType:
    """The type in which an operation on two types is done (language.md 8.2).

    A float beats other kinds; among floats the wider wins and of equal widths the one with more mantissa (bf16 with fp16 is fp16); of
    integers the wider wins and of equal widths the unsigned one; bool gives way.
    """
    if left is right:
        return left
    if left.is_bool or right.is_bool:
        return right if left.is_bool else left
    if left.is_float or right.is_float:
        if not (left.is_float and right.is_float):
            return left if left.is_float else right
        return max(left, right, key=lambda d: (d.bits, d.mantissa_bits, str(d)))
    if left.bits != right.bits:
        return left if left.bits > right.bits else right
    return left if left.kind is DTypeKind.UINT else right
