"""What products are computed in (floor 4)."""

from __future__ import annotations

from tilewright import dtypes
from tilewright.dtypes import DType


def compute_dtype(operand: DType, accumulator: DType) -> DType:
    """What products and sums are done in: float64 or int32 where asked for, else float32."""
    if operand.is_float:
        return dtypes.float64 if dtypes.float64 in (operand, accumulator) else dtypes.float32
    return accumulator if accumulator.bits >= 32 else dtypes.int32
