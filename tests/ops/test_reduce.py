"""T.reduce_*: every operation, axis and dtype, clear=False, NaN, regions, overlapping memory; against plain numpy and the reference."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind

NUMPY: dict[str, Any] = {
    "sum": lambda a, axis: a.sum(axis), "max": lambda a, axis: a.max(axis), "min": lambda a, axis: a.min(axis), "absmax": lambda a, axis: np.abs(a).max(axis),
    "abssum": lambda a, axis: np.abs(a).sum(axis), "bitand": lambda a, axis: np.bitwise_and.reduce(a, axis), "bitor": lambda a, axis: np.bitwise_or.reduce(a, axis),
    "bitxor": lambda a, axis: np.bitwise_xor.reduce(a, axis)}
MERGE: dict[str, Any] = {"sum": np.add, "max": np.maximum, "min": np.minimum, "absmax": lambda old, new: np.maximum(np.abs(old), new), "bitand": np.bitwise_and,
                         "bitor": np.bitwise_or, "bitxor": np.bitwise_xor}
NUMBERS = ("sum", "max", "min", "absmax", "abssum")
ALL = tuple(NUMPY)


def result_shape(shape: tuple[int, ...], axis: int, is_kept: bool) -> tuple[int, ...]:
    rest = tuple(n for a, n in enumerate(shape) if a != axis % len(shape))
    return tuple(1 if a == axis % len(shape) else n for a, n in enumerate(shape)) if is_kept else rest or (1,)


def kernel_of(shape: tuple[int, ...], axis: int, source: str, result: str, kinds: tuple[str, ...], is_kept: bool = False, start: Any = None, **options: Any) -> Any:
    """Reduces A with every operation into the planes of B; from `start` where it is given."""
    reduced = result_shape(shape, axis, is_kept)
    clear = start is None

    @T.prim_func
    def kernel(A: T.Tensor(shape, source), B: T.Tensor((len(kinds), *reduced), result)):
        with T.Kernel(1):
            held, total = T.alloc_shared(shape, source), T.alloc_fragment(reduced, result)
            T.copy(A, held)
            one_after_the_other(held, total, B)

    @T.macro
    def one_after_the_other(held: Any, total: Any, B: Any) -> None:
        each(held, total, B)

    def each(held: Any, total: Any, B: Any) -> None:
        for plane, kind in enumerate(kinds):
            if not clear:
                T.fill(total, start)
            T.reduce(held, total, kind, axis, clear=clear, **options)
            T.copy(total, B[(plane, *(slice(None) for _ in reduced))])

    return kernel


kernel_of.__globals__["one_after_the_other"] = None  # found in the closure of each kernel


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("is_kept", [False, True])
def test_every_axis(axis: int, is_kept: bool) -> None:
    shape = (5, 3, 9)
    a = integers(shape, np.int32)
    found = run(kernel_of(shape, axis, "int32", "int32", ALL, is_kept), A=a, B=np.zeros((8, *result_shape(shape, axis, is_kept)), np.int32))["B"]
    for plane, kind in enumerate(ALL):
        np.testing.assert_array_equal(found[plane].reshape(-1), NUMPY[kind](a, axis).reshape(-1), kind)
