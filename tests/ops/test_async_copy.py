"""Asynchronous copies: what they mean, on the CPU and in the reference, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind
from tilewright.ir.visit import statements
from tilewright.ops.async_copy import CommitGroup, WaitGroup
from tilewright.ops.copy import Copy


def test_a_copy_is_done_after_the_wait_and_clipped_as_every_copy() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((10, 12), "float32"), B: T.Tensor((16, 12), "float32")):
        with T.Kernel(2, threads=64) as bx:
            held = T.alloc_shared((8, 12), "float32")
            T.async_copy(A[bx * 8, 0], held)
            T.ptx_commit_group()
            T.ptx_wait_group(0)
            for i, j in T.Parallel(8, 12):
                B[bx * 8 + i, j] = held[i, j] + 1

    a = integers((10, 12))
    wanted = np.ones((16, 12), np.float32)
    wanted[:10] += a
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((16, 12), np.float32))["B"], wanted)
    kinds = [s for s in statements(kernel.program.launches[0].body) if isinstance(s, (Copy, CommitGroup, WaitGroup))]
    assert isinstance(kinds[0], Copy) and kinds[0].is_async and isinstance(kinds[1], CommitGroup) and isinstance(kinds[2], WaitGroup)


def test_one_element() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((4,), "float32"), B: T.Tensor((4,), "float32")):
        with T.Kernel(1, threads=32):
            held = T.alloc_shared((4,), "float32")
            T.clear(held)
            T.async_copy(A[1], held[2])
            T.ptx_wait_group(0)
            T.copy(held, B)

    np.testing.assert_array_equal(run(kernel, A=np.arange(4, dtype=np.float32), B=np.zeros(4, np.float32))["B"], [0, 0, 1, 0])


@pytest.mark.parametrize(("scope", "what"), [("fragment", "destination"), ("global", "source")])
def test_other_memories_are_refused(scope: str, what: str) -> None:
    def body(A: Any) -> None:
        tile = T.alloc_fragment((8,), "float32") if scope == "fragment" else T.alloc_shared((8,), "float32")
        if scope == "fragment":
            T.async_copy(A, tile)
        else:
            T.async_copy(tile, tile)

    with refused(Kind.SCOPE, f"the {what} of T.async_copy"):

        @T.prim_func
        def kernel(A: T.Tensor((8,), "float32")):
            with T.Kernel(1):
                T.macro(body)(A)

        kernel.program  # noqa: B018 - traced here at the latest


@pytest.mark.parametrize("pending", [-1, 1.5, True])
def test_the_number_of_groups_is_an_int(pending: Any) -> None:
    with refused(Kind.OPTION_VALUE, "T.ptx_wait_group"):

        @T.prim_func
        def kernel(A: T.Tensor((8,), "float32")):
            with T.Kernel(1):
                T.ptx_wait_group(pending)

        kernel.program  # noqa: B018 - traced here at the latest
