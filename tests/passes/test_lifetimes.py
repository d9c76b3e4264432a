"""Which loops keep something in a tile from one turn to the next."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright.language as T
from tilewright.ir.buffer import Scope
from tilewright.language.function import PrimFunc
from tilewright.passes.context import GpuPassContext
from tilewright.passes.expand_pipeline import expand_pipeline
from tilewright.passes.expand_tile_ops import expand_tile_ops
from tilewright.passes.lifetimes import Touch, carried_by, find_lifetimes, first_touch
from tilewright.target.nvidia import SM_80


def carrying(kernel: PrimFunc, tile: str = "t") -> list[str]:
    """The loops that keep something in a tile: in the traced program, once the same is found in the one with loops for operations."""
    (launch,) = kernel.program.launches
    found = carried_by(launch.body, next(b for b in launch.buffers if b.name == tile))
    context = GpuPassContext(SM_80)
    find_lifetimes(expand_tile_ops(kernel.program, context), context)
    again = next(names for b, names in context.carried.items() if b.name == tile)
    assert {v.name for v in again} == {v.name for v in found}
    return sorted(v.name for v in found)


def loops(body: Any, after: Any = None, before: Any = None) -> PrimFunc:
    """`before; for a: for b: body; after`, with a tile t."""

    @T.prim_func
    def kernel(A: T.Tensor((64, 16), "float32"), n: T.int32, C: T.Tensor((64, 16), "float32")):
        with T.Kernel(1, threads=32):
            t, x = T.alloc_shared((16,), "float32"), T.alloc_fragment((16,), "float32")
            if before is not None:
                before(A, t, x, C, n)
            for a in T.serial(n):
                for b in T.serial(n):
                    body(A, t, x, C, a * 8 + b)
            if after is not None:
                after(A, t, x, C, n)

    return kernel


@T.macro
def fill_and_use(A: Any, t: Any, x: Any, C: Any, k: Any) -> None:
    T.copy(A[k, :], t)
    T.copy(t, C[k, :])


@T.macro
def use_and_fill(A: Any, t: Any, x: Any, C: Any, k: Any) -> None:
    T.copy(t, C[k, :])
    T.copy(A[k, :], t)


@T.macro
def add(A: Any, t: Any, x: Any, C: Any, k: Any) -> None:
    for i in T.Parallel(16):
        t[i] += A[k, i]


@T.macro
def fill_half(A: Any, t: Any, x: Any, C: Any, k: Any) -> None:
    T.copy(A[k, 0:8], t[0:8])
    T.copy(t, C[k, :])


@T.macro
def fill_perhaps(A: Any, t: Any, x: Any, C: Any, k: Any) -> None:
    if A[k, 0] > 0:
        T.copy(A[k, :], t)
    T.copy(t, C[k, :])


@T.macro
def write(A: Any, t: Any, x: Any, C: Any, k: Any) -> None:
    for i in T.Parallel(16):
        t[i] = A[k, i] + 1


@T.macro
def read(A: Any, t: Any, x: Any, C: Any, k: Any) -> None:
    T.copy(t, C[k, :])


@pytest.mark.parametrize(
    ("body", "after", "expected"),
    [
        (fill_and_use, None, []),
        (use_and_fill, None, ["a", "b"]),
        (add, None, ["a", "b"]),
        (fill_half, None, ["a", "b"]),
        (fill_perhaps, None, ["a", "b"]),
        (write, None, []),
        (write, read, []),
        (read, None, ["a", "b"]),
        (fill_and_use, read, []),
    ],
)
def test_loops(body: Any, after: Any, expected: list[str]) -> None:
    found = carrying(loops(body, after))
    if after is read:
        assert found == ["a"], "the inner loop may have no turn, and then what an earlier one left is read behind the loops"
    else:
        assert found == expected


def test_what_is_read_in_every_turn_is_kept() -> None:
    def before(A: Any, t: Any, x: Any, C: Any, n: Any) -> None:
        T.copy(A[0, :], t)

    assert carrying(loops(read, before=before)) == ["a", "b"]


def test_a_turn_that_is_left_before_the_tile_is_overwritten() -> None:
    def loop(is_read: bool) -> PrimFunc:
        @T.prim_func
        def kernel(A: T.Tensor((64, 16), "float32"), n: T.int32, C: T.Tensor((64, 16), "float32")):
            with T.Kernel(1, threads=32):
                t = T.alloc_shared((16,), "float32")
                T.clear(t)
                for a in T.serial(n):
                    if A[a, 0] > 0:
                        break
                    T.copy(A[a, :], t)
                    T.copy(t, C[a, :])
                if is_read:
                    T.copy(t, C[0, :])

        return kernel

    assert carrying(loop(True)) == ["a"]
    assert carrying(loop(False)) == ["a"], "what follows a possible end of the turn is not looked at as certain"


def test_the_first_touch() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16,), "float32"), C: T.Tensor((16,), "float32")):
        with T.Kernel(1, threads=32):
            t, u = T.alloc_shared((16,), "float32"), T.alloc_shared((2, 16), "float32")
            T.copy(A, t)
            T.fill(u, 1)
            T.fill(u[0, :], 2)
            T.atomic_add(t[0], 1)
            for i, j in T.Parallel(16, 2):
                u[j, i] = t[i]
            for i in T.Parallel(16):
                if i > 3:
                    t[i] = 1
            for _ in T.serial(2):
                T.clear(t)
            T.cumsum(u[1, :], t)

    (launch,) = kernel.program.launches
    t, u = (b for b in launch.buffers if b.scope is Scope.SHARED)
    body = launch.body.body  # type: ignore[attr-defined]
    assert [first_touch(s, t).value for s in body] == ["overwritten", "nothing", "nothing", "used", "used", "nothing", "overwritten", "nothing"]
    assert [first_touch(s, u) for s in body] == [
        Touch.NOTHING,
        Touch.OVERWRITTEN,
        Touch.NOTHING,
        Touch.NOTHING,
        Touch.OVERWRITTEN,
        Touch.NOTHING,
        Touch.NOTHING,
        Touch.USED,
    ]


def test_tiles_of_a_pipeline_are_kept_by_its_loop_only() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((64, 16), "float32"), n: T.int32, C: T.Tensor((64, 16), "float32")):
        with T.Kernel(1, threads=32):
            t = T.alloc_shared((16,), "float32")
            for a in T.serial(n):
                for k in T.Pipelined(n, num_stages=3):
                    T.copy(A[k, :], t)
                    T.copy(t, C[k, :])

    context = GpuPassContext(SM_80)
    find_lifetimes(expand_pipeline(kernel.program, context), context)
    ((tile, carried),) = context.carried.items()
    assert tile.shape == (3, 16) and [v.name for v in carried] == ["k"]
    assert {v.name for v in context.tile_loops} == {"a", "k", "k_ahead"}
