"""Regions of threads as parallel loops: which memory gets a place per thread, and how threads are numbered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import run
from tilewright.arith.evaluate import evaluate
from tilewright.dtypes import as_dtype
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import const, load, var
from tilewright.ir.program import Launch
from tilewright.ir.stmt import If, Let, ParallelFor, Seq, Store
from tilewright.ir.visit import statements
from tilewright.passes.expand_threads import Region, expand_threads, flat_thread, replaced_buffers

SPAN = Span("program.py", 1)
THREADS = (8, 2, 1)
VARIABLES = var("tx"), var("ty"), var("tz")


def buffer(name: str, shape: tuple[int, ...], scope: Scope, **options: Any) -> Buffer:
    return Buffer(name, as_dtype("float32"), shape, scope, SPAN, **options)


TILE, LOCAL = buffer("tile", (16,), Scope.SHARED), buffer("local", (3,), Scope.LOCAL)


def region(*body: Any, mask: Any = None) -> Region:
    return Region(SPAN, mask, Seq(SPAN, body))


def expand(*regions: Region, buffers: tuple[Buffer, ...] = (TILE, LOCAL), single: frozenset[Buffer] = frozenset()) -> tuple[list[Any], dict[str, Buffer]]:
    """The statements that regions become, and the buffers of the launch by name."""
    launch = Launch((const(1),), (var("bx"),), THREADS, VARIABLES, buffers, Seq(SPAN, ()), SPAN)
    body, made = expand_threads(Seq(SPAN, regions), launch, single)
    assert not any(isinstance(s, Region) for s in statements(body))
    return list(body.body), {b.name: b for b in made}  # type: ignore[attr-defined]


@pytest.mark.parametrize("threads", [(32, 1, 1), (8, 4, 2), (1, 5, 3), (1, 1, 1)])
def test_threads_are_numbered_x_fastest(threads: tuple[int, int, int]) -> None:
    z, y, x = np.indices(threads[::-1])
    number = evaluate(flat_thread(threads, VARIABLES), dict(zip(VARIABLES, (x, y, z), strict=True)), lambda *_: pytest.fail("no loads"))
    assert np.broadcast_to(number, x.shape).reshape(-1).tolist() == list(range(x.size))


def test_a_region_is_a_loop_over_the_axes_that_have_threads() -> None:
    (loop,), _ = expand(region(Store(SPAN, TILE, (VARIABLES[0] + VARIABLES[1] * 8,), const(1.0))))
    assert isinstance(loop, ParallelFor) and [int(n.value) for n in loop.extents] == [2, 8] and [v.name for v in loop.variables] == ["ty", "tx"]
    assert not set(loop.variables) & set(VARIABLES)  # of its own, so that several regions do not share them


def test_a_mask_is_a_condition_inside() -> None:
    (loop,), _ = expand(region(Store(SPAN, TILE, (VARIABLES[0],), const(1.0)), mask=VARIABLES[1] < 1))
    assert isinstance(loop, ParallelFor) and isinstance(loop.body, If) and loop.variables[0] in loop.body.condition.args


def test_memory_of_one_region_at_fixed_places_stays_and_other_memory_gets_a_place_per_thread() -> None:
    fixed = region(Store(SPAN, LOCAL, (const(1),), const(2.0)), Store(SPAN, TILE, (VARIABLES[0],), load(LOCAL, (const(1),))))
    _, made = expand(fixed)
    assert made["local"] is LOCAL
    moving = region(Store(SPAN, LOCAL, (var("k"),), const(2.0)))
    for regions in ((fixed, region(Store(SPAN, TILE, (VARIABLES[0],), load(LOCAL, (const(1),))))), (moving,)):
        _, made = expand(*regions)
        assert made["local"].shape == (3, 16) and made["local"].scope is Scope.SHARED
    _, made = expand(*regions, single=frozenset({LOCAL}))
    assert made["local"] is LOCAL


def test_views_of_thread_memory_keep_each_threads_part_together() -> None:
    view = buffer("view", (3,), Scope.LOCAL, source=LOCAL)
    body, made = expand(region(Store(SPAN, view, (var("k"),), const(1.0))), buffers=(TILE, LOCAL, view))
    assert made["local"].shape == (16, 3)
    (store,) = [s for s in statements(body[0]) if isinstance(s, Store)]
    assert store.buffer.shape == (16, 3) and store.buffer.storage is made["local"]


def test_names_used_in_another_region_are_kept_per_thread() -> None:
    value = var("value", as_dtype("float32"))
    first = region(Let(SPAN, value, load(TILE, (VARIABLES[0],))))
    second = region(Store(SPAN, TILE, (VARIABLES[0],), value * 2.0))
    body, made = expand(first, second)
    assert made["value"].shape == (16,) and made["value"].dtype == "float32"
    kept = [s for s in statements(body[0]) if isinstance(s, Store)]
    assert [s.buffer for s in kept] == [made["value"]] and kept[0].value is value
    (used,) = [s for s in statements(body[1]) if isinstance(s, Store)]
    assert used.value.args[0].buffer is made["value"]


def test_buffers_are_replaced_in_stores_and_loads() -> None:
    other = buffer("other", (16,), Scope.SHARED)
    made = replaced_buffers(Store(SPAN, TILE, (const(0),), load(TILE, (const(1),)) + load(LOCAL, (const(2),))), {TILE: other})
    assert made.buffer is other and {a.buffer for a in made.value.args} == {other, LOCAL}  # type: ignore[attr-defined]


def test_threads_keep_what_they_have_across_barriers() -> None:
    @T.prim_func
    def main(A: T.Tensor((64,), "float32"), B: T.Tensor((64, 3), "float32")):
        with T.Kernel(1, threads=(16, 4)):
            tx, ty, _ = T.get_thread_bindings()
            number = tx + ty * 16
            tile, own = T.alloc_shared((64,), "float32"), T.alloc_local((3,), "float32")
            mine = A[number]
            for k in T.serial(3):
                own[k] = mine * (k + 1)
            tile[number] = mine
            T.sync_threads()
            other = tile[63 - number]
            T.sync_threads()
            for k in T.serial(3):
                B[number, k] = own[k] + other

    a = np.arange(64, dtype=np.float32)
    np.testing.assert_array_equal(run(main, A=a, B=np.zeros((64, 3), np.float32))["B"], a[:, None] * [1, 2, 3] + a[::-1, None])
