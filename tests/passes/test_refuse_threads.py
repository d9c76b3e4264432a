"""GPUs take tile programs; code for threads is refused with the place of its launch."""

from __future__ import annotations

import pytest

import tilewright.language as T
from tests.execution import refused
from tilewright.errors import Kind
from tilewright.passes import GPU_PASSES
from tilewright.passes.context import PassContext
from tilewright.passes.refuse_threads import refuse_threads
from tilewright.target.cpu import host_target


@pytest.mark.parametrize("is_thread_level", [False, True])
def test_only_launches_of_threads_are_refused(is_thread_level: bool) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((64,), "float32")):
        with T.Kernel(1, threads=64):
            if is_thread_level:
                A[T.get_thread_binding()] = 0
            T.sync_threads()
            for i in T.Parallel(64):
                A[i] += 1

    assert refuse_threads in GPU_PASSES
    if not is_thread_level:
        assert refuse_threads(kernel.program, PassContext(host_target())) is kernel.program
        return
    with refused(Kind.THREAD_LEVEL, "T.Kernel"):
        refuse_threads(kernel.program, PassContext(host_target()))
