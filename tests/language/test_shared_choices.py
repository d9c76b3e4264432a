"""Expressions in which a choice stands in its own operands: as many names as choices, not as many ways as there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, run
from tilewright.ir.stmt import Let
from tilewright.ir.visit import statements
from tilewright.language.function import PrimFunc


def stepped(x: Any, steps: int, change: Callable[[Any, int], Any]) -> Any:
    for k in range(steps):
        x = change(x, k)
    return x


def by_itself(x: Any, k: int) -> Any:
    return T.if_then_else(x > k, x - 2, x + 1)


def by_something_else(c: Any) -> Callable[[Any, int], Any]:
    """The condition does not hold x, but both sides do."""
    return lambda x, k: T.if_then_else(c > k, x * 2, x + 1)


def kernel_of(steps: int, change: Callable[[Any], Callable[[Any, int], Any]], size: int = 64) -> PrimFunc:
    @T.prim_func
    def kernel(A: T.Tensor((size,), "int32"), C: T.Tensor((size,), "int32"), B: T.Tensor((64,), "int32")):
        with T.Kernel(1, threads=64):
            for i in T.Parallel(64):
                B[i] = stepped(A[i], steps, change(C[i]))

    return kernel


def named(kernel: PrimFunc) -> int:
    return sum(isinstance(s, Let) for s in statements(kernel.program.launches[0].body))


@pytest.mark.parametrize(("change", "expected"), [(lambda c: by_itself, "itself"), (by_something_else, "else")], ids=["itself", "else"])
def test_choices_on_choices(change: Any, expected: str) -> None:
    """20 steps have 3^20 ways."""
    kernel = kernel_of(20, change, 60)
    assert named(kernel) > 15
    a, c = integers((60,), np.int32, -9, 60), integers((60,), np.int32, 0, 25, seed=1)
    x, padded = np.pad(a, (0, 4)), np.pad(c, (0, 4))  # what lies outside is 0
    for k in range(20):
        x = np.where(x > k, x - 2, x + 1) if expected == "itself" else np.where(padded > k, x * 2, x + 1)
    np.testing.assert_array_equal(run(kernel, A=a, C=c, B=np.zeros(64, np.int32))["B"], x)
    report = tilewright.compile(kernel, target="simulate").simulate(a, c, np.zeros(64, np.int32))
    assert not report.findings
    np.testing.assert_array_equal(report.outputs["B"], x)


def test_small_expressions_stay_as_they_are() -> None:
    assert named(kernel_of(3, lambda c: by_itself)) == 0


def test_a_choice_that_may_not_be_made_is_not_made_before() -> None:
    """The shared choices stand under a condition: made before it, they would read outside of the tile."""

    @T.prim_func
    def kernel(A: T.Tensor((8,), "int32"), B: T.Tensor((8,), "int32")):
        with T.Kernel(1, threads=8):
            s = T.alloc_shared((8,), "int32")
            T.copy(A, s)
            for i in T.Parallel(8):
                B[i] = T.if_then_else(A[i] < 8, stepped(s[A[i]], 5, by_itself), -1)

    assert named(kernel) == 0
    a = np.array([0, 7, 3, 1000000, 2, 99999, 8, 1], np.int32)
    x = np.where(a < 8, a[np.minimum(a, 7)], 0)
    for k in range(5):
        x = np.where(x > k, x - 2, x + 1)
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(8, np.int32))["B"], np.where(a < 8, x, -1))
