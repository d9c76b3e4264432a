"""Asynchronous copies of the user: which stay so, and that the result never depends on when they land."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import assert_same, copied, integers
from tests.passes.late_copies import late_copies
from tilewright.ir.visit import statements
from tilewright.language.function import PrimFunc
from tilewright.ops.copy import Copy
from tilewright.passes.context import GpuPassContext
from tilewright.passes.expand_pipeline import expand_pipeline
from tilewright.passes.settle_async_copies import settle_async_copies
from tilewright.target.nvidia import SM_80


def settled(kernel: PrimFunc) -> list[bool]:
    """For each T.async_copy, whether it stays asynchronous, once late copies give the result of plain ones."""
    arguments = {"A": integers((8, 16)), "C": np.zeros((8, 16), np.float32)}
    wanted = tilewright.run_reference(kernel.program, copied(arguments))
    context = GpuPassContext(SM_80)
    program = settle_async_copies(kernel.program, context)
    with late_copies():
        found = tilewright.run_reference(expand_pipeline(program, context), copied(arguments))
    assert_same(found["C"], wanted["C"])
    originals = [s for s in statements(kernel.program.launches[0].body) if isinstance(s, Copy) and s.is_async]
    copies = {s.span: s.is_async for s in statements(program.launches[0].body) if isinstance(s, Copy)}
    kept = [copies[s.span] for s in originals]
    assert len([r for r in context.remarks if "copied at once" in r.text]) == kept.count(False)
    return kept


def block(body: Any) -> PrimFunc:
    macro = T.macro(body)

    @T.prim_func
    def kernel(A: T.Tensor((8, 16), "float32"), C: T.Tensor((8, 16), "float32")):
        with T.Kernel(1, threads=32):
            t, u = T.alloc_shared((16,), "float32"), T.alloc_shared((16,), "float32")
            T.clear(t)
            T.clear(u)
            macro(A, C, t, u)
            T.copy(t, C[6, :])
            T.copy(u, C[7, :])

    return kernel


def plain(A: Any, C: Any, t: Any, u: Any) -> None:
    T.async_copy(A[0, :], t)
    T.copy(A[1, :], C[1, :])
    T.async_copy(A[2, :], u)
    T.ptx_commit_group()
    T.ptx_wait_group(0)


def two_groups(A: Any, C: Any, t: Any, u: Any) -> None:
    T.async_copy(A[0, :], t)
    T.ptx_commit_group()
    T.async_copy(A[1, :], u)
    T.ptx_commit_group()
    T.ptx_wait_group(1)
    T.copy(t, C[0, :])
    T.ptx_wait_group(0)
    T.copy(u, C[1, :])


def no_wait(A: Any, C: Any, t: Any, u: Any) -> None:
    T.async_copy(A[0, :], t)
    T.ptx_commit_group()


def no_commit(A: Any, C: Any, t: Any, u: Any) -> None:
    T.async_copy(A[0, :], t)
    T.ptx_wait_group(0)


def wait_for_too_few(A: Any, C: Any, t: Any, u: Any) -> None:
    T.async_copy(A[0, :], t)
    T.ptx_commit_group()
    T.ptx_wait_group(1)
    T.copy(t, C[0, :])


def used_before(A: Any, C: Any, t: Any, u: Any) -> None:
    T.async_copy(A[0, :], t)
    T.ptx_commit_group()
    T.copy(t, C[0, :])
    T.ptx_wait_group(0)


def source_changes(A: Any, C: Any, t: Any, u: Any) -> None:
    T.async_copy(C[0, :], t)
    T.ptx_commit_group()
    T.copy(A[3, :], C[0, :])
    T.ptx_wait_group(0)


def halves(A: Any, C: Any, t: Any, u: Any) -> None:
    T.async_copy(A[0, 0:8], t[0:8])
    T.async_copy(A[1, 8:16], t[8:16])
    T.async_copy(A[2, 4:12], t[4:12])
    T.ptx_commit_group()
    T.ptx_wait_group(0)


def in_a_branch(A: Any, C: Any, t: Any, u: Any) -> None:
    for k in T.serial(4):
        if k > 1:
            T.async_copy(A[k, :], t)
        T.ptx_commit_group()
        T.ptx_wait_group(0)
        T.copy(t, C[k, :])


def in_a_pipeline(A: Any, C: Any, t: Any, u: Any) -> None:
    for k in T.Pipelined(4, num_stages=3):
        T.copy(A[k, :], t)
        T.async_copy(A[k + 1, :], u)
        T.ptx_commit_group()
        T.ptx_wait_group(0)
        for i in T.Parallel(16):
            C[k, i] = t[i] * 2 + u[i]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (plain, [True, True]),
        (two_groups, [True, True]),
        (no_wait, [False]),
        (no_commit, [False]),
        (wait_for_too_few, [False]),
        (used_before, [False]),
        (source_changes, [False]),
        (halves, [False, False, True]),
        (in_a_branch, [False]),
        (in_a_pipeline, [True]),
    ],
)
def test_copies(body: Any, expected: list[bool]) -> None:
    assert settled(block(body)) == expected
