"""How loops are spread over threads, and which registers their accesses mean: by enumerating every point of every thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tilewright.dtypes import as_dtype
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import const, load, var
from tilewright.ir.stmt import ParallelFor, Store
from tilewright.ir.visit import statements
from tilewright.layout import LANE, REG, WARP
from tilewright.passes.loop_layout import (
    VECTOR,
    Access,
    LoopPlan,
    accesses_of,
    carry_into_fragment,
    carry_into_loop,
    every_thread,
    follow,
    fragment_table,
    match_registers,
    replicated_fragment,
    spread,
    spread_columns,
    spread_rows,
    static_extents,
)

SPAN = Span("program.py", 1)


def buffer(name: str, shape: tuple[int, ...], scope: Scope, dtype: str = "float32") -> Buffer:
    return Buffer(name, as_dtype(dtype), shape, scope, SPAN)


def copy_loop(shape: tuple[int, ...], dtype: str = "float32", src: Scope = Scope.GLOBAL, dst: Scope = Scope.FRAGMENT) -> tuple[ParallelFor, Access, Access]:
    """A loop that copies a tile, its load, and its store."""
    variables = tuple(var(name) for name, _ in zip("ijkl", shape, strict=False))
    source, target = buffer("source", shape, src, dtype), buffer("target", shape, dst, dtype)
    loop = ParallelFor(SPAN, variables, tuple(map(const, shape)), Store(SPAN, target, variables, load(source, variables)))
    store, read = accesses_of(loop)
    return loop, read, store


def covers_once(plan: LoopPlan) -> bool:
    points = plan.points[plan.is_active]
    return len({tuple(p) for p in points.tolist()}) == np.prod(plan.extents)


SHAPES = [(64, 64), (32, 100), (7, 3), (128,), (5,), (4, 8, 16), (1, 1), (3, 512)]


@pytest.mark.parametrize("threads", [32, 128, 256])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_iteration_is_some_threads_and_vectors_are_neighbours(shape: tuple[int, ...], dtype: str, threads: int) -> None:
    loop, _, _ = copy_loop(shape, dtype)
    plan = spread(loop, shape, threads)
    assert covers_once(plan) and plan.num_threads == threads
    assert plan.vector_elements * as_dtype(dtype).bits <= 128
    table = plan.split.reorder(ins=[WARP, LANE, REG, VECTOR]).table().reshape(-1, plan.vector_elements, len(shape))
    steps = np.diff(table, axis=1)
    assert (steps[..., -1] == 1).all() and (steps[..., :-1] == 0).all()


@pytest.mark.parametrize(("shape", "threads"), [((16, 64), 128), ((8, 512), 256), ((2, 8, 64), 128), ((64, 32), 64)])
def test_rows_of_one_warp(shape: tuple[int, ...], threads: int) -> None:
    loop, _, _ = copy_loop(shape)
    plan = spread_rows(loop, shape, threads)
    assert plan is not None and covers_once(plan)
    owners: dict[tuple[int, ...], set[int]] = {}
    for thread, (points, active) in enumerate(zip(plan.points, plan.is_active, strict=True)):
        for point in points[active].tolist():
            owners.setdefault(tuple(point[:-1]), set()).add(thread // 32)
    assert all(len(warps) == 1 for warps in owners.values())
    assert spread_rows(loop, shape, 48) is None and spread_rows(copy_loop((64,))[0], (64,), 64) is None


def test_columns_of_neighbouring_threads() -> None:
    loop, _, _ = copy_loop((16, 64))
    plan = spread_columns(loop, (16, 64), 64, 0)
    assert covers_once(plan) and (np.unique(plan.points[:32, 0, 1]) == np.arange(32)).all()
    assert len(np.unique(plan.points[0, :, 1])) == 1  # a thread stays in its column


@pytest.mark.parametrize("shape", [(64, 64), (16, 8), (3, 40)])
def test_a_fragment_that_follows_a_loop_is_found_in_its_registers(shape: tuple[int, ...]) -> None:
    loop, _, store = copy_loop(shape)
    plan = spread(loop, shape, 64)
    fragment = carry_into_fragment(loop, plan, store)
    assert fragment is not None
    back = carry_into_loop(loop, shape, store, fragment)
    assert back is not None and np.array_equal(back.points, plan.points) and follow(loop, shape, {store.buffer: fragment}) is not None
    registers = match_registers(loop, plan, store, fragment, {})
    assert registers is not None and registers.origin == 0
    held = fragment_table(fragment, shape)
    for thread in (0, 1, 37, 63):
        for number in range(plan.points.shape[1]):
            if plan.is_active[thread, number]:
                vector, reg = number % plan.vector_elements, number // plan.vector_elements
                register = registers.layout(**{VECTOR: vector, REG: reg})[REG]
                assert held[thread, register] == np.ravel_multi_index(tuple(plan.points[thread, number]), shape)


def test_registers_of_other_threads_are_not_found() -> None:
    shape = (32, 32)
    loop, _, store = copy_loop(shape)
    fragment = carry_into_fragment(loop, spread(loop, shape, 64), store)
    assert fragment is not None
    i, j = loop.variables
    turned = Access(store.buffer, (j, i), False)
    assert match_registers(loop, spread(loop, shape, 64), turned, fragment, {}) is None
    everywhere = replicated_fragment(shape, 64)
    assert match_registers(loop, spread(loop, shape, 64), turned, everywhere, {}) is None  # it is there, in another register on each thread
    row = buffer("row", (32,), Scope.FRAGMENT)
    alone = ParallelFor(SPAN, (), (), Store(SPAN, row, (const(3),), const(1.0)))
    found = match_registers(alone, every_thread(64), next(accesses_of(alone)), replicated_fragment((32,), 64), {})
    assert found is not None and found.origin == 3


def test_fragments_that_every_thread_holds() -> None:
    table = fragment_table(replicated_fragment((3, 4), 64), (3, 4))
    assert table.shape[0] == 64 and all(set(row[row >= 0].tolist()) == set(range(12)) for row in table) and (table == table[0]).all()


def test_extents_come_from_the_tiles_where_the_loop_does_not_say() -> None:
    n = T.dynamic("n")

    @T.prim_func
    def main(A: T.Tensor((n,), "float32"), B: T.Tensor((n,), "float32")):
        with T.Kernel(1, threads=64):
            tile = T.alloc_fragment((48,), "float32")
            for i in T.Parallel(n):
                tile[i] = A[i]
            for i in T.Parallel(n):
                B[i] = A[i]
            for i in T.Parallel(7):
                tile[i] = 0.0

    found = [static_extents(s) for s in statements(main.program.launches[0].body) if isinstance(s, ParallelFor)]
    assert found == [(48,), None, (7,)]


def test_a_statement_outside_loops_is_every_threads() -> None:
    plan: Any = every_thread(96)
    assert plan.num_threads == 96 and plan.points.shape == (96, 1, 0) and plan.is_active.all()
