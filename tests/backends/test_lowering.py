"""Programs for GPUs: lowering."""

from __future__ import annotations

import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.passes import GPU_PASSES


@T.prim_func
def double(A: T.Tensor((33,), "float32"), B: T.Tensor((33,), "float32")):
    with T.Kernel(1):
        for i in T.Parallel(33):
            B[i] = A[i] * 2


@pytest.mark.skipif(bool(GPU_PASSES), reason="there are passes")
@pytest.mark.parametrize("target", ["sm_80", "simulate"])
def test_there_are_no_passes_yet(target: str) -> None:
    with refused(Kind.TARGET_FEATURE):
        tilewright.compile(double, target=target)
