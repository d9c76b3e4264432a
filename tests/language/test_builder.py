"""The builder: statements in blocks, values as they are now, names of buffers, and what may be stored where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import refused, run
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind, Span
from tilewright.ir import build
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import const, var
from tilewright.ir.stmt import Let, Seq, Store
from tilewright.language.builder import FrameKind, ProgramBuilder, is_named, is_volatile, name_buffer, program_builder

SPAN = Span("program.py", 2)


def buffer(name: str = "tile", scope: Scope = Scope.SHARED) -> Buffer:
    return Buffer(name, as_dtype("float32"), (4,), scope, SPAN)


def test_values_that_may_change_are_evaluated_where_they_are_named() -> None:
    builder, tile = ProgramBuilder("main", SPAN), buffer()
    i = var("i")
    with builder.active(), builder.block() as made:
        assert builder.snapshot(i + 1, "next") is i + 1
        held = builder.snapshot(tile[i] * 2.0, "held")
        pair = builder.snapshot((tile[0], 3), "pair")
    assert [type(s) for s in made] == [Let, Let] and made[0].variable is held and held.name == "held"
    assert pair[0] is made[1].variable and pair[1] == 3
    assert is_volatile(tile[i]) and not is_volatile(i * 2) and not is_volatile(const(3))


def test_blocks_and_frames_nest() -> None:
    builder, tile = ProgramBuilder("main", SPAN), buffer()
    with builder.active():
        assert program_builder() is builder
        with builder.block() as outer:
            builder.store(tile, 0, 1)
            with builder.frame(FrameKind.LOOP, SPAN), builder.block() as inner:
                builder.store(tile, 1, 2)
                assert builder.is_inside(FrameKind.LOOP) and not builder.is_inside(FrameKind.PARALLEL)
                assert builder.statement_count() == 1 and builder.statements_since(0) == inner
            builder.store(tile, 2, 3)
    assert [s.indices[0].value for s in outer] == [0, 2] and [s.indices[0].value for s in inner] == [1] and not builder.frames
    with build.detached(), refused(Kind.NO_BUILDER):
        program_builder()


def test_stored_values_take_the_dtype_of_the_tile() -> None:
    builder, tile = ProgramBuilder("main", SPAN), buffer()
    with builder.active(), builder.block() as made:
        builder.store(tile, 0, 7)
        builder.store(tile, var("i"), T.int8(3))
    assert all(isinstance(s, Store) and s.value.dtype == "float32" for s in made)


def test_regions_take_tiles_and_single_values() -> None:
    @T.prim_func
    def main(A: T.Tensor((8,), "float32"), B: T.Tensor((8,), "float32")):
        with T.Kernel(1):
            tile = T.alloc_shared((8,), "float32")
            tile[0:8] = A[0:8]
            tile[2:4] = 5
            B[0:8] = tile

    a = np.arange(8, dtype=np.float32)
    assert run(main, A=a, B=np.zeros(8, np.float32))["B"].tolist() == [0, 1, 5, 5, 4, 5, 6, 7]


def test_a_buffer_gets_the_first_name_it_is_bound_to() -> None:
    tile = buffer("<T.alloc_shared>")
    assert not is_named(tile)
    name_buffer(tile, "first")
    name_buffer(tile, "second")
    assert is_named(tile) and tile.name == "first"


def test_a_threads_own_memory_has_no_place_for_another_threads_iteration() -> None:
    builder, local = ProgramBuilder("main", SPAN), buffer("local", Scope.LOCAL)
    i = var("i")
    with builder.active(), builder.block() as made, builder.frame(FrameKind.PARALLEL, SPAN, (i,)):
        builder.store(local, 0, 1)
        with refused(Kind.LOCAL_BY_PARALLEL, "indexed by the parallel variable `i`"):
            builder.store(local, i + 1, 1)
    assert len(made) == 1


def test_statements_outside_any_launch_become_a_launch_of_one_thread() -> None:
    builder, tensor = ProgramBuilder("main", SPAN), buffer("A", Scope.GLOBAL)
    with builder.active(), builder.block() as made:
        builder.store(tensor, 0, 1)
    builder.finish(made)
    (launch,) = builder.launches
    assert launch.threads == (1, 1, 1) and isinstance(launch.body, Seq) and launch.body.body == tuple(made)
    with refused(Kind.LAUNCH_MISSING, "a statement stands outside the launches"):
        builder.finish(made)


@pytest.mark.parametrize("body", [lambda s: T.copy(s, s), lambda s: T.fill(s, 0), lambda s: T.reduce_sum(s, s)])
def test_operations_of_the_block_do_not_stand_in_parallel_loops(body: Any) -> None:
    with refused(Kind.TILE_OP_IN_PARALLEL):

        @T.prim_func
        def main(A: T.Tensor((4,), "float32")):
            with T.Kernel(1):
                s = T.alloc_shared((4, 1), "float32")
                for i in T.Parallel(4):
                    body(s)


def test_asserts_on_sizes_wait_for_the_call() -> None:
    builder, n = ProgramBuilder("main", SPAN), var("n")
    with builder.active(), builder.block() as made:
        builder.assert_on_host(n > 3, "large enough")
        builder.check_on_call(n < 9, "small enough", SPAN)
    assert not made and [c.message for c in builder.checks] == ["large enough", "small enough"]
