"""A schedule of specialised warps is a hint: a kernel with one computes what it computes without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, run


def product(with_schedule: bool) -> Any:
    copied: Any = {T.WSID: 0} if with_schedule else None
    used: Any = {T.WSID: 1} if with_schedule else None

    @T.prim_func
    def main(A: T.Tensor((64, 96), "float32"), B: T.Tensor((96, 64), "float32"), C: T.Tensor((64, 64), "float32")):
        with T.Kernel(1, threads=128):
            a, b = T.alloc_shared((64, 32), "float32"), T.alloc_shared((32, 64), "float32")
            c = T.alloc_fragment((64, 64), "float32")
            if with_schedule:
                roles = [T.WSRole.PRODUCER, T.WSRole.CONSUMER]
                pipeline = T.WSPipeline(2, sync=T.WSSync(T.WSOpRef(0), T.WSOpRef(1), kind=T.WSSyncKind.FULL, scope=T.WSScope("shared")))
                T.annotate_ws_schedule(T.WSSchedule(roles, pipeline, T.WSInstr("wgmma")))
            T.clear(c)
            for k in T.Pipelined(3, num_stages=2):
                T.copy(A[0, k * 32], a, annotations=copied)
                T.copy(B[k * 32, 0], b, annotations=copied)
                with T.ws_op(1):
                    T.gemm(a, b, c, annotations=used)
            T.copy(c, C)

    return main


@pytest.mark.parametrize("with_schedule", [False, True])
def test_the_result_does_not_depend_on_it(with_schedule: bool) -> None:
    a, b = integers((64, 96)), integers((96, 64), seed=1)
    found = run(product(with_schedule), A=a, B=b, C=np.zeros((64, 64), np.float32))
    np.testing.assert_array_equal(found["C"], a @ b)


def test_members_have_the_names_they_are_asked_by() -> None:
    assert T.WSRole.PRODUCER == "WSRole.PRODUCER" != T.WSScope.PRODUCER
    assert not hasattr(T.WSRole, "_hidden")
    assert T.WSSchedule(1, stages=2).named == {"stages": 2}
