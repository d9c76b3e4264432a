"""Classes whose methods write kernel code."""

from __future__ import annotations

import numpy as np

import tilewright.language as T
from tests.execution import refused, run
from tilewright.errors import Kind


@T.meta_class
class Counter:
    """State in variables of the kernel; some methods write code, some are Python."""

    def __init__(self, start, limit):
        self._value = T.alloc_var("int32", start)
        self._limit = limit

    def step(self, amount):
        if self._value[0] < self._limit:
            self._value[0] += amount

    @T.inline
    def reset(self):
        self._value[0] = 0

    def limit(self):
        return self._limit

    @property
    def value(self):
        return self._value[0]


def test_methods_store_branch_and_return() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "int32"), n: T.int32):
        with T.Kernel(1):
            counter = Counter(n, 10)
            for _ in T.serial(4):
                counter.step(3)
            A[0] = counter.value
            A[1] = counter.limit()
            counter.reset()
            counter.step(1)
            A[2] = counter.value

    np.testing.assert_array_equal(run(main, A=np.zeros(4, np.int32), n=2)["A"], [11, 10, 1, 0])


def test_a_class_inside_a_kernel() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "int32")):
        with T.Kernel(1):

            @T.meta_class
            class Writer:
                def write(self, position, value):
                    A[position] = value

            Writer().write(2, 9)

    np.testing.assert_array_equal(run(main, A=np.zeros(4, np.int32))["A"], [0, 0, 9, 0])


def test_other_things_are_refused() -> None:
    with refused(Kind.NOT_A_PRIM_FUNC, "decorates a class"):
        T.meta_class(lambda: None)
