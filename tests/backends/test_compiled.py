"""What all back ends give."""

from __future__ import annotations

import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind


@T.prim_func
def double(A: T.Tensor((33,), "float32"), B: T.Tensor((33,), "float32")):
    with T.Kernel(1):
        for i in T.Parallel(33):
            B[i] = A[i] * 2


@pytest.mark.parametrize("what", ["ptx", "sass", "resources"])
def test_what_a_target_does_not_have_is_refused(what: str) -> None:
    kernel = tilewright.compile(double, target="cpu")
    with refused(Kind.TARGET_FEATURE, "NVIDIA"):
        getattr(kernel, what)() if what == "resources" else getattr(kernel, what)
