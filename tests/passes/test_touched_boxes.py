"""The boxes that operations of a block touch hold every element that they do touch, and little else."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright.language as T
from tilewright.ir.buffer import Scope
from tilewright.ir.stmt import ParallelFor
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import statements
from tilewright.passes.touched_boxes import touched_boxes


def boxes(body: Any) -> list[str]:
    """`w s[1:+4, 0:+8]` for each access of shared tiles in the first loop or operation."""
    trace = T.macro(body)

    @T.prim_func
    def kernel(A: T.Tensor((64, 64), "int32"), n: T.int32):
        with T.Kernel(2, threads=32) as bx:
            s, t = T.alloc_shared((16, 32), "int32"), T.alloc_shared((512,), "int32")
            trace(s, t, A, n, bx)

    stmt = next(s for s in statements(kernel.program.launches[0].body) if isinstance(s, (ParallelFor, TileOp)))
    return [
        f"{'a' if is_atomic else 'w' if is_write else 'r'} {b.name}" + ("" if box is None else f"[{', '.join(f'{start}:+{extent}' for start, extent in box)}]")
        for b, box, is_write, is_atomic in touched_boxes(stmt)
        if b.scope is Scope.SHARED
    ]


def whole(s, t, A, n, bx):
    for i, j in T.Parallel(16, 32):
        s[i, j] = A[i, j]


def window(s, t, A, n, bx):
    for i, j in T.Parallel(4, 8):
        s[i + n, 2 * j + 1] = t[bx * 32 + j * 4 + i]


def downwards(s, t, A, n, bx):
    for i in T.Parallel(8):
        t[20 - i] = t[40 + 3 * i] + 1


def inner_loop(s, t, A, n, bx):
    for i in T.Parallel(8):
        for k in T.serial(4):
            row = i * 2
            s[row, k + 3] = 1


def runtime_extent(s, t, A, n, bx):
    for i in T.Parallel(n):
        t[i + 1] = 0


def scattered(s, t, A, n, bx):
    for i in T.Parallel(8):
        t[A[0, i]] = 0
        s[i // 2, 0] = 1


def counted(s, t, A, n, bx):
    for i in T.Parallel(8):
        T.atomic_add(t[i], 1)


def operation(s, t, A, n, bx):
    T.cumsum(s[2:4, :], dim=1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (whole, ["w s[0:+16, 0:+32]"]),
        (window, ["r t[bx * 32:+32]", "w s[n:+4, 1:+15]"]),
        (downwards, ["r t[40:+22]", "w t[13:+8]"]),
        (inner_loop, ["w s[0:+15, 3:+4]"]),
        (runtime_extent, ["w t[1:+1 + (n - 1)]"]),
        (scattered, ["w t[0:+512]", "w s[0:+16, 0:+1]"]),
        (counted, ["a t[0:+8]"]),
        (operation, ["r s[2:+2, 0:+32]", "w s[2:+2, 0:+32]"]),
    ],
)
def test_boxes(body: Any, expected: list[str]) -> None:
    assert boxes(body) == expected
