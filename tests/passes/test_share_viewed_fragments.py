"""Fragments with views: in shared memory, whatever operation they take part in."""

from __future__ import annotations

import numpy as np

import tilewright
import tilewright.language as T
from tests.execution import integers
from tilewright.ir.buffer import Scope
from tilewright.passes.context import GpuPassContext
from tilewright.passes.share_viewed_fragments import share_viewed_fragments
from tilewright.target.nvidia import SM_80


def test_only_fragments_with_views_are_moved() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((12,), "float32"), B: T.Tensor((4, 3), "float32")):
        with T.Kernel(1, threads=64):
            x, y = T.alloc_fragment((12,), "float32"), T.alloc_fragment((4, 3), "float32")
            T.copy(A, x)
            T.copy(T.reshape(x, (4, 3)), y)
            T.copy(y, B)

    context = GpuPassContext(SM_80)
    (launch,) = share_viewed_fragments(kernel.program, context).launches
    assert {b.name: b.scope for b in launch.buffers if b.source is None} == {"x": Scope.SHARED, "y": Scope.FRAGMENT}
    assert ["x is also used as a view" in r.text for r in context.remarks] == [True]
    a, found = np.arange(12, dtype=np.float32), np.zeros((4, 3), np.float32)
    tilewright.compile(kernel, target="simulate")(a, found)
    np.testing.assert_array_equal(found, a.reshape(4, 3))


def test_an_accumulator_with_a_view() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "float16"), B: T.Tensor((16, 16), "float16"), C: T.Tensor((256,), "float32")):
        with T.Kernel(1, threads=64):
            a, b, c = T.alloc_shared((16, 16), "float16"), T.alloc_shared((16, 16), "float16"), T.alloc_fragment((16, 16), "float32")
            T.copy(A, a)
            T.copy(B, b)
            T.clear(c)
            T.gemm(a, b, c)
            T.copy(T.reshape(c, (256,)), C)

    a, b, found = integers((16, 16), np.float16), integers((16, 16), np.float16, seed=1), np.zeros(256, np.float32)
    tilewright.compile(kernel, target="simulate")(a, b, found)
    np.testing.assert_array_equal(found.reshape(16, 16), a.astype(np.float32) @ b.astype(np.float32))
