"""Statements behind a break or continue."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import run


def test_they_are_left_out_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"test_unreachable\.py:\d+: never runs, it stands behind a `(break|continue)`") as found:

        @T.prim_func
        def main(A: T.Tensor((8,), "int32")):
            with T.Kernel(1):
                for i in T.serial(8):
                    if i == 2:
                        continue
                        A[i] = 50
                    if i == 5:
                        break
                        A[i] = 60
                        A[i] = 70
                    A[i] = i + 1

    assert len(found) == 2
    np.testing.assert_array_equal(run(main, A=np.zeros(8, np.int32))["A"], [1, 2, 0, 4, 5, 0, 0, 0])


def test_a_break_at_the_end_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @T.prim_func
        def main(A: T.Tensor((8,), "int32")):
            with T.Kernel(1):
                for i in T.serial(8):
                    A[i] = 1
                    if i == 3:
                        break

    assert run(main, A=np.zeros(8, np.int32))["A"].sum() == 4
