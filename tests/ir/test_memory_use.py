"""Which tensors a program reads and writes."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright.language as T
from tilewright.ir.memory_use import memory_use
from tilewright.language.function import PrimFunc


def used(prim_func: PrimFunc) -> tuple[list[str], list[str]]:
    use = memory_use(prim_func.program)
    return [b.name for b in use.read], [b.name for b in use.written]


def kernel_of(statement: Any) -> PrimFunc:
    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "float32"), B: T.Tensor((16, 16), "float32"), I: T.Tensor((16,), "int32")):
        with T.Kernel(2, threads=1):
            s = T.alloc_shared((16, 16), "float32")
            statement(A, B, I, s)

    return kernel


@pytest.mark.parametrize(
    ("statement", "read", "written"),
    [
        (lambda A, B, I, s: T.copy(A, s), ["A"], []),
        (lambda A, B, I, s: T.copy(s, B), [], ["B"]),
        (lambda A, B, I, s: T.clear(B), [], ["B"]),
        (lambda A, B, I, s: T.fill(B[0 : I[0], :], A[1, 1]), ["A", "I"], ["B"]),
        (lambda A, B, I, s: B.__setitem__((I[2], 3), A[I[1], 0] + 1), ["A", "I"], ["B"]),
        (lambda A, B, I, s: T.atomic_add(B[0, 0], A[0, 0]), ["A", "B"], ["B"]),
        (lambda A, B, I, s: T.atomic_load(B[0, 0]), ["B"], []),
        (lambda A, B, I, s: T.atomic_add(B, s), [], ["B"]),
        (lambda A, B, I, s: T.reduce_sum(A, s[0, :], dim=0), ["A"], []),
        (lambda A, B, I, s: T.reduce_max(s, B[:, 0], dim=1, clear=False), ["B"], ["B"]),
        (lambda A, B, I, s: T.print(A), ["A"], []),
        (lambda A, B, I, s: T.copy(T.reshape(A, (256,)), T.view(B, (256,))), ["A"], ["B"]),
        (lambda A, B, I, s: T.device_assert(I[3] > 0), ["I"], []),
        (lambda A, B, I, s: T.clear(s), [], []),
    ],
)
def test_statements(statement: Any, read: list[str], written: list[str]) -> None:
    found_read, found_written = used(kernel_of(statement))
    assert (sorted(found_read), found_written) == (read, written)


def test_outside_the_statements() -> None:
    """Grids, checks and safe values read memory too."""

    @T.prim_func
    def kernel(
        G: T.Tensor((1,), "int32"), H: T.Tensor((1,), "int32"), S: T.Tensor((1,), "float32"), A: T.Tensor((8,), "float32"), B: T.Tensor((8,), "float32")
    ):
        assert H[0] > 0
        with T.Kernel(G[0]) as bx:
            T.annotate_safe_value({A: S[0]})
            B[bx] = A[bx + 4]

    read, written = used(kernel)
    assert sorted(read) == ["A", "G", "H", "S"] and written == ["B"]


def test_several_launches_and_workspaces() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((8,), "float32"), B: T.Tensor((8,), "float32"), C: T.Tensor((8,), "float32")):
        W = T.alloc_global((8,), "float32")
        with T.Kernel(1):
            T.copy(A, W)
        with T.Kernel(1):
            T.copy(W, B)

    assert used(kernel) == (["A", "W"], ["W", "B"])
