"""Addresses of elements: where they point, who takes them, what has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import refused, run
from tilewright.errors import Kind


def test_offsets_are_counted_row_major() -> None:
    @T.prim_func
    def main(A: T.Tensor((3, 4), "int32")):
        with T.Kernel(1, threads=1):
            for i in T.serial(12):
                T.atomic_add(A.access_ptr("rw", offset=i), i)
            T.atomic_add(T.address_of(A[1, 2]), 100)
            T.atomic_add(T.access_ptr(A[1, 2], "w", 4, offset=3), 200)
            T.atomic_max(T.access_ptr(A[0:2, 1:3]), 1000)

    want = np.arange(12).reshape(3, 4)
    want[1, 2] += 100
    want[2, 1] += 200
    want[0, 1] = 1000
    np.testing.assert_array_equal(run(main, A=np.zeros((3, 4), np.int32))["A"], want)


def test_a_reference_takes_an_address() -> None:
    @T.macro
    def store(place: T.Ref, value):
        place = value

    @T.prim_func
    def main(A: T.Tensor((8,), "int32")):
        with T.Kernel(1):
            store(A.access_ptr("w", offset=5), 7)

    np.testing.assert_array_equal(run(main, A=np.zeros(8, np.int32))["A"], [0] * 5 + [7, 0, 0])


def trace(use: Any) -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "int32"), n: T.int32):
        with T.Kernel(1):
            use(A, n)
            A[0] = 1


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (Kind.OPERAND_KIND, lambda A, n: T.address_of(n)),
        (Kind.OPERAND_KIND, lambda A, n: T.address_of(A[0] + 1)),
        (Kind.OPERAND_KIND, lambda A, n: T.access_ptr(3)),
        (Kind.OPTION_VALUE, lambda A, n: T.access_ptr(A[0], "x")),
        (Kind.OPTION_VALUE, lambda A, n: A.access_ptr(1)),
    ],
)
def test_what_has_no_address_is_refused(kind: Kind, use: Any) -> None:
    with refused(kind):
        trace(use)
