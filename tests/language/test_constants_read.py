"""What a kernel was compiled for: numbers around the function count, wherever it reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tilewright.language.constants_read import ConstantsRead

SCALE = 2.0
OFFSET = 1
FACTORS: Any = (3, 1)
NEVER_READ = 0


def helped(x: Any) -> Any:
    return x + OFFSET


@T.macro
def multiplied(x):
    return x * FACTORS[0]


@tilewright.jit
def eager(A):
    N = T.const("N")
    A: T.Tensor((N,), "float32")
    B = T.empty((N,), "float32")
    with T.Kernel(1, threads=32):
        for i in T.Parallel(N):
            B[i] = multiplied(helped(A[i] * SCALE))
    return B


@tilewright.jit(out_idx=[-1])
def lazy(N):
    @T.prim_func
    def main(A: T.Tensor((N,), "float32"), B: T.Tensor((N,), "float32")):
        with T.Kernel(1, threads=32):
            for i in T.Parallel(N):
                B[i] = multiplied(helped(A[i] * SCALE))

    return main


A = np.arange(4, dtype=np.float32)


@pytest.mark.parametrize("call", [eager, lambda a: lazy(4)(a)], ids=["eager", "lazy"])
def test_a_changed_number_makes_another_kernel(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    np.testing.assert_array_equal(call(A), (A * 2 + 1) * 3)
    for name, value, expected in (("SCALE", 5.0, (A * 5 + 1) * 3), ("OFFSET", 7, (A * 2 + 7) * 3), ("FACTORS", [4], (A * 2 + 1) * 4)):
        with monkeypatch.context() as patch:
            patch.setitem(globals(), name, value)
            np.testing.assert_array_equal(call(A), expected)
    np.testing.assert_array_equal(call(A), (A * 2 + 1) * 3)


def test_an_enclosing_function_counts_and_other_names_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    step = 1.0

    @tilewright.jit
    def kernel(A):
        N = T.const("N")
        A: T.Tensor((N,), "float32")
        B = T.empty((N,), "float32")
        with T.Kernel(1, threads=32):
            for i in T.Parallel(N):
                B[i] = A[i] + step
        return B

    np.testing.assert_array_equal(kernel(A), A + 1)
    step = 9.0
    np.testing.assert_array_equal(kernel(A), A + 9)
    monkeypatch.setitem(globals(), "NEVER_READ", 5)
    assert kernel.compile(N=4) is kernel.compile(N=4) and len(kernel.kernels) == 2


def test_values_are_told_apart() -> None:
    held: Any = None

    def reads() -> Any:
        return held

    places = ConstantsRead(reads)
    seen = []
    for held in (1, 1.0, True, float("nan"), -0.0, 0.0, "1", (1, 2), [1, 2.0], T.float32, "float32"):
        seen.append(places.now())
        assert places.now() == seen[-1]
    assert len(set(seen)) == len(seen)
    held = np.zeros(3)  # no plain value: not told
    assert places.now() == (None,)
