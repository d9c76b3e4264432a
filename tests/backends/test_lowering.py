"""A program lowered to threads, as the CUDA back end and the simulator take it."""

from __future__ import annotations

import tilewright.language as T
from tilewright.backends.lowering import lower_to_threads
from tilewright.ir.verify import Level, verify
from tilewright.passes import GPU_PASSES, PassRecord
from tilewright.target.nvidia import SM_80


@T.prim_func
def double(A: T.Tensor((33,), "float32"), B: T.Tensor((33,), "float32")):
    with T.Kernel(1):
        for i in T.Parallel(33):
            B[i] = A[i] * 2


def test_every_pass_is_run_and_recorded() -> None:
    records: list[PassRecord] = []
    threads = lower_to_threads(double.program, SM_80, records)
    assert [r.name for r in records] == [p.__name__ for p in GPU_PASSES] and records[-1].program is threads.program
    verify(threads.program, Level.THREAD, "lowering")
    assert threads.context.target is SM_80 and threads.passes_ms > 0
