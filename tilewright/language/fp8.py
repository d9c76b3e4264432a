"""Which fp8 format a short name means (floor 5); programs import this as `tilelang.language.fp8`."""

from __future__ import annotations

from typing import Any

from tilewright.dtypes import DType, as_dtype
from tilewright.errors import Kind, fail
from tilewright.ir.expr import describe_operand
from tilewright.spans import span_of_caller

_FORMATS = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}


def determine_fp8_type(fp8_format: Any = "e4m3") -> DType:
    """The dtype of "e4m3" or "e5m2": those of the OCP standard, as everywhere but on older AMD devices.

    Raises TileError (dtype-name) for other names.
    """
    if not isinstance(fp8_format, str) or fp8_format not in _FORMATS:
        fail(
            Kind.DTYPE_NAME,
            f"the fp8 format is {describe_operand(fp8_format)}",
            span_of_caller(),
            because='known are "e4m3" and "e5m2"',
            help='write determine_fp8_type("e4m3")',
        )
    return as_dtype(_FORMATS[fp8_format])
