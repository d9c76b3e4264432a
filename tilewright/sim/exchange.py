"""Exchanges between the threads of a warp (floor 7). Meaning: `ir.stmt.WarpExchangeKind`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.dtypes import DType
from tilewright.execution.memory import Array
from tilewright.ir.stmt import WARP_THREADS, WarpExchangeKind

_LANES = np.arange(WARP_THREADS)
_REDUCTIONS: dict[WarpExchangeKind, Any] = {
    WarpExchangeKind.SUM: np.add,
    WarpExchangeKind.MAX: np.fmax,
    WarpExchangeKind.MIN: np.fmin,
    WarpExchangeKind.BIT_AND: np.bitwise_and,
    WarpExchangeKind.BIT_OR: np.bitwise_or,
}


def exchange(kind: WarpExchangeKind, values: Array, operand: Array | None, width: int, takes_part: Array, dtype: DType) -> Array:
    """What every lane receives: (warps, 32).

    values, operand   (warps, 32).
    takes_part        (warps, 32) the lanes that run it; each warp has at least one.
    dtype             of the values.
    """
    match kind:
        case WarpExchangeKind.SHUFFLE | WarpExchangeKind.SHUFFLE_UP | WarpExchangeKind.SHUFFLE_DOWN | WarpExchangeKind.SHUFFLE_XOR:
            assert operand is not None
            return np.take_along_axis(values, shuffle_source(kind, operand, width), axis=1)
        case WarpExchangeKind.ANY:
            return _spread(np.asarray((values & takes_part).any(axis=1), np.int32))
        case WarpExchangeKind.ALL:
            return _spread(np.asarray((values | ~takes_part).all(axis=1), np.int32))
        case WarpExchangeKind.BALLOT:
            return _spread(lane_bits(values & takes_part))
        case WarpExchangeKind.ACTIVE_MASK:
            return _spread(lane_bits(takes_part))
        case WarpExchangeKind.MATCH_ANY:
            return np.stack([lane_bits((values == values[:, k : k + 1]) & takes_part) for k in _LANES], axis=1)
        case WarpExchangeKind.MATCH_ALL:
            first = values[np.arange(len(values)), takes_part.argmax(axis=1)]
            is_same = ((values == first[:, None]) | ~takes_part).all(axis=1)
            return _spread(np.where(is_same, lane_bits(takes_part), np.uint32(0)))
    combine = _REDUCTIONS[kind]
    wide = np.float64 if dtype.is_float and kind is WarpExchangeKind.SUM else values.dtype
    result = []
    for row, mask in zip(values, takes_part, strict=True):
        result.append(combine.reduce(row[mask].astype(wide)) if kind is not WarpExchangeKind.SUM else combine.reduce(row[mask].astype(wide), dtype=wide))
    return _spread(np.asarray(result).astype(values.dtype))


def shuffle_source(kind: WarpExchangeKind, operand: Array, width: int) -> Array:
    """The lane whose value each lane receives."""
    start = _LANES & ~(width - 1)
    match kind:
        case WarpExchangeKind.SHUFFLE:
            return np.asarray(start + (operand & (width - 1)))
        case WarpExchangeKind.SHUFFLE_UP:
            source = _LANES - operand
            return np.asarray(np.where(source >= start, source, _LANES))
        case WarpExchangeKind.SHUFFLE_DOWN:
            source = _LANES + operand
        case _:
            source = _LANES ^ operand
    return np.asarray(np.where(source < start + width, source, _LANES))


def lane_bits(lanes: Array) -> Array:
    """(warps, 32) bools as uint32, lane 0 lowest."""
    return np.ascontiguousarray(np.packbits(lanes, axis=1, bitorder="little")).view(np.uint32)[:, 0]


def _spread(by_warp: Array) -> Array:
    return np.repeat(by_warp[:, None], WARP_THREADS, axis=1)
