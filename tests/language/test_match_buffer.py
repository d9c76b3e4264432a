"""T.match_buffer: handles that become tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind


@T.prim_func
def scale(a: T.handle, b: T.handle, factor: T.float32):
    n = T.dynamic("n")
    A = T.match_buffer(a, (n, 4), dtype="float32")
    B = T.match_buffer(b, (n, 4), "float32", strides=(8, 1), align=64, offset_factor=1)
    with T.Kernel(1):
        for i, j in T.Parallel(n, 4):
            B[i, j] = A[i, j] * factor


def test_symbols_and_strides_are_bound() -> None:
    a, b = integers((5, 4)), np.zeros((5, 8), np.float32)[:, :4]
    np.testing.assert_array_equal(run(scale, a=a, b=b, factor=3.0)["b"], a * 3)


def test_arguments_are_checked_like_those_of_other_tensors() -> None:
    kernel = tilewright.compile(scale)
    with refused(Kind.ARGUMENT_DTYPE, "a is float64"):
        kernel(np.zeros((5, 4)), np.zeros((5, 8), np.float32)[:, :4], 1.0)


def trace(make: Any) -> None:
    @T.prim_func
    def main(a: T.handle, A: T.Tensor((4,), "float32"), n: T.int32):
        make(a, A, n)
        with T.Kernel(1):
            A[0] = 1


@pytest.mark.parametrize(
    "make",
    [
        lambda a, A, n: T.match_buffer(A, (4,)),
        lambda a, A, n: T.match_buffer(n, (4,)),
        lambda a, A, n: T.match_buffer(3, (4,)),
        lambda a, A, n: [T.match_buffer(a, (4,)), T.match_buffer(a, (4,))],
        lambda a, A, n: T.match_buffer(a, (4,), elem_offset=3),
        lambda a, A, n: T.match_buffer(a, (4,), scope="shared"),
    ],
)
def test_what_is_no_parameter_is_refused(make: Any) -> None:
    with refused(Kind.OPERAND_KIND, "T.match_buffer"):
        trace(make)
