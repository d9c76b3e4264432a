"""Software pipelines: the result is that of the serial loop however late copies land, for every trip count; what must stay in its place stays."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import Arrays, assert_same, copied, integers
from tests.passes.late_copies import late_copies
from tests.passes.products import product
from tilewright.ir.program import Program
from tilewright.ir.stmt import Barrier, For, LoopKind
from tilewright.ir.verify import Level, verify
from tilewright.ir.visit import statements
from tilewright.language.function import PrimFunc
from tilewright.ops.async_copy import CommitGroup, WaitGroup
from tilewright.ops.copy import Copy
from tilewright.passes.context import GpuPassContext
from tilewright.passes.expand_pipeline import expand_pipeline
from tilewright.target.nvidia import SM_80
from tilewright.testing.case import load_case
from tilewright.testing.generate import generate


def expanded(kernel: PrimFunc) -> tuple[Program, GpuPassContext]:
    context = GpuPassContext(SM_80)
    made = expand_pipeline(kernel.program, context)
    verify(made, Level.TILE, "expand_pipeline")
    assert not any(isinstance(s, For) and s.kind is LoopKind.PIPELINED for launch in made.launches for s in statements(launch.body))
    return made, context


def of(program: Program, *kinds: type) -> list[Any]:
    return [s for launch in program.launches for s in statements(launch.body) if isinstance(s, kinds)]


def copies_ahead(program: Program) -> list[Copy]:
    return [c for c in of(program, Copy) if c.is_async]


def check(kernel: PrimFunc, **arguments: Any) -> Arrays:
    """What the serial loop gives, once the pipeline gives the same with copies that land late."""
    wanted = tilewright.run_reference(kernel.program, copied(arguments))
    program, _ = expanded(kernel)
    with late_copies() as groups:
        found = tilewright.run_reference(program, copied(arguments))
        assert not any(groups), "a copy was never waited for"
    for name, array in wanted.items():
        assert_same(found[name], array, what=name)
    return wanted


def staged(stages: int, body: Any = None, order: Any = None, stage: Any = None, trips: Any = None) -> PrimFunc:
    """`for k in T.Pipelined(n): copy A's row k, copy B's row k, C[k] = f(a, b) + running sum`."""

    @T.prim_func
    def kernel(A: T.Tensor((9, 8), "float32"), B: T.Tensor((9, 8), "float32"), n: T.int32, C: T.Tensor((9, 8), "float32")):
        with T.Kernel(1, threads=32):
            a, b, total = T.alloc_shared((8,), "float32"), T.alloc_shared((8,), "float32"), T.alloc_fragment((8,), "float32")
            T.clear(total)
            for k in T.Pipelined(n if trips is None else trips, num_stages=stages, order=order, stage=stage):
                T.copy(A[k, :], a)
                T.copy(B[k, :], b)
                if body is not None:
                    body(A, B, a, b, C, total, k)
                for i in T.Parallel(8):
                    total[i] += a[i] * 2 + b[i]
                T.copy(total, C[k, :])

    return kernel


def rows() -> dict[str, Any]:
    return {"A": integers((9, 8)), "B": integers((9, 8), seed=1), "C": np.zeros((9, 8), np.float32)}


@pytest.mark.parametrize("stages", [2, 3, 4])
@pytest.mark.parametrize("n", range(7))
def test_every_trip_count(stages: int, n: int) -> None:
    check(staged(stages), n=n, **rows())


@pytest.mark.parametrize("stages", [0, 1])
def test_one_stage_is_a_serial_loop(stages: int) -> None:
    program, context = expanded(staged(stages))
    assert not of(program, CommitGroup, WaitGroup, Barrier) and not copies_ahead(program) and not context.remarks
    check(staged(stages), n=4, **rows())


def test_the_shape_of_the_code() -> None:
    program, context = expanded(staged(3))
    (prologue, steady) = of(program, For)[:2]
    assert [len(of(program, kind)) for kind in (CommitGroup, WaitGroup, Barrier)] == [2, 1, 1]
    assert prologue.extent.value == 2 and of(program, WaitGroup)[0].pending == 1
    assert len(copies_ahead(program)) == 4, "the copies stand before the loop and in it"
    assert {b.name: (b.shape, v.count, v.original.shape) for b, v in context.versions.items()} == {"a": ((3, 8), 3, (8,)), "b": ((3, 8), 3, (8,))}
    assert steady.kind is LoopKind.SERIAL


def test_constant_trip_counts_need_no_guard() -> None:
    program, _ = expanded(staged(2, trips=5))
    assert str(program) and not any(type(s).__name__ == "If" for s in program.launches[0].body.body[1].body[:1])  # type: ignore[attr-defined]
    check(staged(2, trips=5), n=0, **rows())
    check(staged(4, trips=2), n=0, **rows())
    check(staged(3, trips=0), n=0, **rows())


@pytest.mark.parametrize(
    ("order", "stage", "distances"),
    [
        (None, [0, 0, 1, 1], {"a": 1, "b": 1}),
        ([0, 1, 2, 3], [0, 1, 2, 2], {"a": 2, "b": 1}),
        ([0, 1, 2, 3], [0, 2, 2, 3], {"a": 2}),
        ([1, 0, 2, 3], [0, 0, 3, 3], {"a": 3, "b": 3}),
    ],
)
def test_stages_of_the_user(order: Any, stage: Any, distances: dict[str, int]) -> None:
    _, context = expanded(staged(0, order=order, stage=stage))
    assert {b.name: v.count - 1 for b, v in context.versions.items()} == distances
    for n in range(6):
        check(staged(0, order=order, stage=stage), n=n, **rows())


def stays(kernel: PrimFunc, reason: str, tile: str = "a") -> None:
    program, context = expanded(kernel)
    assert tile not in {b.name for b in context.versions}
    assert [r for r in context.remarks if r.text.startswith(f"{tile} is not copied ahead") and reason in r.text], [r.text for r in context.remarks]
    assert all(c.dst.buffer.name != tile for c in copies_ahead(program))


def test_a_source_that_the_loop_writes() -> None:
    def body(A: Any, B: Any, a: Any, b: Any, C: Any, total: Any, k: Any) -> None:
        T.copy(b, A[k + 1, :])

    kernel = staged(2, T.macro(body))
    stays(kernel, "A is written in the loop")
    check(kernel, n=6, **rows())


def test_a_tile_that_is_used_before_it_is_written() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9, 8), "float32"), n: T.int32, C: T.Tensor((9, 8), "float32")):
        with T.Kernel(1, threads=32):
            a = T.alloc_shared((8,), "float32")
            T.clear(a)
            for k in T.Pipelined(n, num_stages=2):
                T.copy(a, C[k, :])
                T.copy(A[k, :], a)

    stays(kernel, "used before it is written")
    check(kernel, n=6, A=integers((9, 8)), C=np.zeros((9, 8), np.float32))


def test_a_tile_that_is_read_after_the_loop() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9, 8), "float32"), n: T.int32, C: T.Tensor((9, 8), "float32")):
        with T.Kernel(1, threads=32):
            a = T.alloc_shared((8,), "float32")
            T.clear(a)
            for k in T.Pipelined(n, num_stages=2):
                T.copy(A[k, :], a)
                T.copy(a, C[k, :])
            T.copy(a, C[8, :])

    stays(kernel, "read after the loop")
    for n in (0, 3):
        check(kernel, n=n, A=integers((9, 8)), C=np.zeros((9, 8), np.float32))


@pytest.mark.parametrize("is_read", [False, True])
def test_two_loops_and_a_loop_around_them(is_read: bool) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9, 8), "float32"), n: T.int32, C: T.Tensor((3, 9, 8), "float32")):
        with T.Kernel(1, threads=32):
            a = T.alloc_shared((8,), "float32")
            T.clear(a)
            for t in T.serial(3):
                if is_read:
                    T.copy(a, C[t, 8, :])
                for k in T.Pipelined(n, num_stages=2):
                    T.copy(A[k, :], a)
                    T.copy(a, C[t, k, :])
                for m in T.Pipelined(n, num_stages=4):
                    T.copy(A[m + 1, :], a)
                    for i in T.Parallel(8):
                        C[t, m, i] += a[i]

    if is_read:
        stays(kernel, "read after the loop")
    else:
        _, context = expanded(kernel)
        assert [v.count for v in context.versions.values()] == [4]
    for n in (0, 1, 4):
        check(kernel, n=n, A=integers((9, 8)), C=np.zeros((3, 9, 8), np.float32))


@pytest.mark.parametrize("kind", ["read", "computed"])
def test_indices_that_are_read_from_memory(kind: str) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9, 8), "float32"), rows: T.Tensor((9,), "int32"), n: T.int32, C: T.Tensor((9, 8), "float32")):
        with T.Kernel(1, threads=32):
            a, at = T.alloc_shared((8,), "float32"), T.alloc_var("int32")
            at = 0
            for k in T.Pipelined(n, num_stages=3):
                if kind == "computed":
                    at = at + rows[k]
                    T.copy(A[at % 9, :], a)
                else:
                    first = rows[k]
                    T.copy(A[first, :], a)
                T.copy(a, C[k, :])

    arguments = {"A": integers((9, 8)), "rows": integers((9,), np.int32, 0, 9), "C": np.zeros((9, 8), np.float32)}
    if kind == "computed":
        stays(kernel, "depends on what the loop computes")
    else:
        assert expanded(kernel)[1].versions
    for n in range(5):
        check(kernel, n=n, **arguments)


def test_a_conditional_copy_and_one_of_a_part() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9, 8), "float32"), n: T.int32, C: T.Tensor((9, 16), "float32")):
        with T.Kernel(1, threads=32):
            a, b = T.alloc_shared((8,), "float32"), T.alloc_shared((8,), "float32")
            T.clear(a)
            T.clear(b)
            for k in T.Pipelined(n, num_stages=2):
                if k % 2 == 0:
                    T.copy(A[k, :], a)
                T.copy(A[k, 0:4], b[2:6])
                T.copy(a, C[k, 0:8])
                T.copy(b, C[k, 8:16])

    stays(kernel, "stands in a branch")
    stays(kernel, "not every element", "b")
    check(kernel, n=6, A=integers((9, 8)), C=np.zeros((9, 16), np.float32))


def test_a_tile_of_two_parts_a_view_of_it_and_operations_on_it() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9, 64), "float32"), n: T.int32, C: T.Tensor((9, 8), "float32"), D: T.Tensor((9, 8), "float32")):
        with T.Kernel(1, threads=32):
            a, sums, turned = T.alloc_shared((8, 8), "float32"), T.alloc_shared((8,), "float32"), T.alloc_shared((8, 8), "float32")
            flat = T.reshape(a, (64,))
            for k in T.Pipelined(n, num_stages=3):
                T.copy(A[k, 0:32], flat[0:32])
                T.copy(A[k, 32:64], flat[32:64])
                T.reduce_sum(a, sums, dim=1)
                T.cumsum(a, dim=0)
                T.transpose(a, turned)
                T.fill(a[0, :], 2)
                T.copy(sums, C[k, :])
                for i in T.Parallel(8):
                    D[k, i] = turned[i, 7] + flat[i] + a[1, i]
                T.atomic_add(a[3, :], turned[0, :])
                T.copy(a[3, :], D[k, :])

    _, context = expanded(kernel)
    assert {b.name for b in context.versions} == {"a", "flat"}
    for n in (0, 1, 2, 3, 5):
        check(kernel, n=n, A=integers((9, 64)), C=np.zeros((9, 8), np.float32), D=np.zeros((9, 8), np.float32))


@pytest.mark.parametrize("leaving", ["break", "continue"])
def test_leaving_a_turn(leaving: str) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9, 8), "float32"), n: T.int32, C: T.Tensor((9, 8), "float32")):
        with T.Kernel(1, threads=32):
            a = T.alloc_shared((8,), "float32")
            for k in T.Pipelined(n, num_stages=3):
                T.copy(A[k, :], a)
                if a[0] > 1:
                    if leaving == "break":
                        break
                    else:
                        continue
                T.copy(a, C[k, :])
            T.clear(a)
            T.copy(a, C[8, :])

    assert expanded(kernel)[1].versions
    for n in range(7):
        for seed in range(3):
            check(kernel, n=n, A=integers((9, 8), seed=seed), C=np.zeros((9, 8), np.float32))


def test_a_conversion_stays() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9, 8), "float16"), C: T.Tensor((9, 8), "float32")):
        with T.Kernel(1, threads=32):
            a = T.alloc_shared((8,), "float32")
            for k in T.Pipelined(9, num_stages=2):
                T.copy(A[k, :], a)
                T.copy(a, C[k, :])

    stays(kernel, "float16 is converted to float32")


def test_nested_pipelines() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((9, 8), "float32"), B: T.Tensor((9, 8), "float32"), n: T.int32, C: T.Tensor((9, 9, 8), "float32")):
        with T.Kernel(1, threads=32):
            a, b = T.alloc_shared((8,), "float32"), T.alloc_shared((8,), "float32")
            for k in T.Pipelined(n, num_stages=2):
                T.copy(A[k, :], a)
                for m in T.Pipelined(n, num_stages=3):
                    T.copy(B[m, :], b)
                    for i in T.Parallel(8):
                        C[k, m, i] = a[i] * 4 + b[i]

    program, context = expanded(kernel)
    assert sorted(v.count for v in context.versions.values()) == [2, 3]
    for n in range(5):
        check(kernel, n=n, A=integers((9, 8)), B=integers((9, 8), seed=1), C=np.zeros((9, 9, 8), np.float32))


@pytest.mark.parametrize("k", [1, 16, 17, 40])
def test_products(k: int) -> None:
    check(product(32, 32, T.dynamic("k"), 16, 16, 8), A=integers((32, k)), B=integers((k, 32), seed=1), C=np.zeros((32, 32), np.float32))


@T.macro
def scale(tile: Any) -> None:
    for i in T.Parallel(8):
        tile[i] = tile[i] * 2 + i


def random_loop(seed: int) -> tuple[PrimFunc, int]:
    """A loop of random statements over three tiles, and its number of stages."""
    rng = random.Random(seed)
    choices = [rng.randrange(8) for _ in range(rng.randrange(2, 7))]
    stages = rng.randrange(2, 5)

    def turn(tiles: Any, A: Any, rows: Any, C: Any, k: Any) -> None:
        for number, choice in enumerate(choices):
            one, other = tiles[rng.randrange(3)], tiles[rng.randrange(3)]
            match choice:
                case 0 | 1 | 2:
                    T.copy(A[(k + number) % 9, :], one)
                case 3:
                    T.copy(A[rows[k], :], one)
                case 4:
                    scale(one)
                case 6 if one is not other:
                    T.copy(one[0:4], other[4:8])
                case 5 | 6:
                    T.copy(one, C[k, number, :])
                case 7:
                    T.copy(A[k, 0:4], one[0:4])

    @T.prim_func
    def kernel(A: T.Tensor((9, 8), "float32"), rows: T.Tensor((9,), "int32"), n: T.int32, C: T.Tensor((9, 9, 8), "float32")):
        with T.Kernel(1, threads=32):
            x, y, z = T.alloc_shared((8,), "float32"), T.alloc_shared((8,), "float32"), T.alloc_shared((8,), "float32")
            T.clear(x)
            T.clear(y)
            T.clear(z)
            for _ in T.serial(2):
                for k in T.Pipelined(n, num_stages=stages):
                    turn((x, y, z), A, rows, C, k)

    return kernel, stages


def test_random_loops() -> None:
    total = 0
    for seed in range(30):
        kernel, stages = random_loop(seed)
        total += len(expanded(kernel)[1].versions)
        for n in (0, 1, stages - 1, stages, stages + 1):
            check(kernel, n=n, A=integers((9, 8)), rows=integers((9,), np.int32, 0, 9), C=np.zeros((9, 9, 8), np.float32))
    assert total > 10, "many of these loops have something to copy ahead"


def test_generated_programs() -> None:
    total = 0
    for number in range(24):
        source = generate(3, number).source
        if "Pipelined" in source:
            case = load_case(source)
            total += len(expanded(case.kernel)[1].versions)
            check(case.kernel, **case.arguments(0))
    assert total
