"""Tile operations as parallel loops: what stays whole, what becomes a loop over which domain, and what a reducer becomes."""

from __future__ import annotations

from typing import Any

import tilewright.language as T
from tilewright.ir.buffer import Scope
from tilewright.ir.expr import Op
from tilewright.ir.program import Launch
from tilewright.ir.stmt import AtomicUpdate, For, ParallelFor, ReduceLoop, Store
from tilewright.ir.tileop import TileOp
from tilewright.ir.visit import statements, subexpressions
from tilewright.ops.gemm import Gemm
from tilewright.ops.reduce import Reduce
from tilewright.ops.scan import Scan
from tilewright.passes.context import GpuPassContext
from tilewright.passes.expand_tile_ops import expand_tile_ops
from tilewright.target.nvidia import SM_80


def expanded(body: Any) -> Launch:
    """A launch with fragments x (32, 64) and y (32), and a shared tile s (32, 64), after the pass."""
    trace = T.macro(body)

    @T.prim_func
    def main(A: T.Tensor((100, 64), "float16"), B: T.Tensor((64,), "float32")):
        with T.Kernel(4, threads=128) as bx:
            x, y = T.alloc_fragment((32, 64), "float32"), T.alloc_fragment((32,), "float32")
            s = T.alloc_shared((32, 64), "float32")
            trace(A, B, bx, x, y, s)

    return expand_tile_ops(main.program, GpuPassContext(SM_80)).launches[0]


def loops(launch: Launch) -> list[tuple[int, ...]]:
    return [tuple(int(n.value) for n in s.extents) for s in statements(launch.body) if isinstance(s, ParallelFor)]


def kept(launch: Launch) -> list[type]:
    return [type(s) for s in statements(launch.body) if isinstance(s, TileOp)]


def test_copies_and_fills_become_loops_over_their_tiles() -> None:
    def body(A, B, bx, x, y, s):
        T.copy(A[bx * 32, 0], x)
        T.fill(y, 3.0)
        T.copy(x[0:16, 8:16], s[16:32, 0:8])
        T.transpose(s[0:32, 0:32], s[0:32, 32:64])

    launch = expanded(body)
    assert loops(launch) == [(32, 64), (32,), (16, 8), (32, 32)] and not kept(launch)
    first = next(s for s in statements(launch.body) if isinstance(s, Store))
    assert first.value.dtype == "float32"  # converted on the way


def test_operations_on_whole_fragments_stay_whole() -> None:
    def body(A, B, bx, x, y, s):
        T.reduce_max(x, y, dim=1)
        T.cumsum(x, dim=1)

    assert kept(expanded(body)) == [Reduce, Scan]

    def product(A, B, bx, x, y, s):
        a = T.alloc_shared((32, 16), "float16")
        b = T.alloc_shared((16, 64), "float16")
        T.gemm(a, b, x)

    assert kept(expanded(product)) == [Gemm]


def test_a_reduction_elsewhere_is_a_serial_loop_of_each_element() -> None:
    def body(A, B, bx, x, y, s):
        T.reduce_sum(s, y, dim=1)

    launch = expanded(body)
    assert loops(launch) == [(32,)] and not kept(launch)
    inner = [s for s in statements(launch.body) if isinstance(s, (For, ReduceLoop))]
    assert [type(s) for s in inner] == [For] and int(inner[0].extent.value) == 64
    assert [b.scope for b in launch.buffers if b.name not in "xys"] == [Scope.VARIABLE]


def test_tiles_that_are_added_become_atomics() -> None:
    def body(A, B, bx, x, y, s):
        T.atomic_add(B[0:32], y)

    launch = expanded(body)
    assert loops(launch) == [(32,)] and sum(isinstance(s, AtomicUpdate) for s in statements(launch.body)) == 1


def test_reducers_are_shared_tiles() -> None:
    def body(A, B, bx, x, y, s):
        total = T.alloc_reducer((32,), "float32", "sum")
        T.reducer_init(total)
        for i, j in T.Parallel(32, 64):
            T.reducer_update(total[i], x[i, j])
        T.finalize_reducer(total, y)

    launch = expanded(body)
    (held,) = [b for b in launch.buffers if b.name == "total"]
    assert held.scope is Scope.SHARED and any(isinstance(s, AtomicUpdate) and s.buffer is held for s in statements(launch.body))
    assert not any(b.scope is Scope.REDUCER for b in launch.buffers)


def test_asynchronous_copies_are_marked() -> None:
    def body(A, B, bx, x, y, s):
        held = T.alloc_shared((32, 64), "float16")
        T.async_copy(A[bx * 32, 0], held)
        T.ptx_commit_group()
        T.ptx_wait_group(0)

    launch = expanded(body)
    assert [s.is_async for s in statements(launch.body) if isinstance(s, ParallelFor)] == [True]
    assert [kind.__name__ for kind in kept(launch)] == ["CommitGroup", "WaitGroup"]


def test_a_fragment_that_every_thread_combines_is_shared_once_in_front_of_the_loop() -> None:
    def body(A, B, bx, x, y, s):
        T.clear(x)
        if T.any_of(x):
            T.clear(y)

    launch = expanded(body)
    assert loops(launch) == [(32, 64), (32, 64), (32,)]
    (turn,) = [s.body for s in statements(launch.body) if isinstance(s, For)]
    assert isinstance(turn, Store)
    assert {e.buffer.scope for e in subexpressions(turn.value) if e.op is Op.LOAD} == {Scope.VARIABLE, Scope.SHARED}
