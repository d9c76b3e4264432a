"""Blocks that run together: ragged and dynamic grids, statements of their own, several loops; bit for bit the same results in integer data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, run
from tests.passes.products import after, agree, exact, operands, product
from tilewright.ir.stmt import For, LoopKind
from tilewright.language.function import PrimFunc
from tilewright.ops.copy import Copy
from tilewright.passes.group_blocks import group_blocks


def groups(prim_func: PrimFunc) -> tuple[int, ...] | None:
    """Blocks per group along each axis of the grid, None where blocks run alone."""
    program, context = after(prim_func, group_blocks)
    texts = [r.text for r in context.remarks if "groups" in r.text]
    if not texts:
        assert program.launches[0].grid == prim_func.program.launches[0].grid
        return None
    return tuple(int(w) for w in texts[0].split("of ")[1].split(",")[0].split(" x "))


def check(kernel: PrimFunc, m: int, n: int, k: int, is_grouped: bool = True, wanted: Any = exact, **options: Any) -> None:
    assert (groups(kernel) is not None) is is_grouped
    arguments = operands(m, n, k, **options)
    found = agree(kernel, arguments, group_blocks)["C"]
    np.testing.assert_array_equal(found, np.asarray(wanted(arguments)).astype(found.dtype))


@pytest.mark.parametrize(("m", "n"), [(256, 256), (250, 241), (40, 512), (130, 64), (17, 300)])
@pytest.mark.parametrize("tb", [False, True])
def test_ragged_grids(m: int, n: int, tb: bool) -> None:
    check(product(m, n, 24, tb=tb), m, n, 24, wanted=lambda arguments: exact(arguments, tb=tb), tb=tb)


@pytest.mark.parametrize(("operand", "accumulator"), [("int8", "int32"), ("float16", "float16"), ("bfloat16", "float32")])
def test_other_dtypes(operand: str, accumulator: str) -> None:
    check(product(150, 133, 40, operand=operand, accumulator=accumulator), 150, 133, 40, operand=operand, accumulator=accumulator)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (15, 300, 20), (100, 70, 9)])
def test_dynamic_grids(m: int, n: int, k: int) -> None:
    kernel = product(*T.dynamic("m, n, k"))
    assert groups(kernel) == (32, 32)
    arguments = operands(m, n, k)
    np.testing.assert_array_equal(agree(kernel, arguments, group_blocks)["C"], exact(arguments))
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], exact(arguments))


def test_an_epilogue_of_every_element() -> None:
    @T.macro
    def epilogue(c: Any, bx: Any, by: Any) -> None:
        for i, j in T.Parallel(16, 16):
            c[i, j] = T.max(c[i, j] + (bx * 16 + j) % 7 - by, 0)

    def wanted(arguments: dict[str, Any]) -> Any:
        i, j = np.indices((160, 144))
        return np.maximum(exact(arguments) + j % 7 - i // 16, 0)

    check(product(160, 144, 32, epilogue=epilogue), 160, 144, 32, wanted=wanted)


def test_a_bias_tile_of_every_column_of_blocks() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((128, 40), "float32"), B: T.Tensor((40, 128), "float32"), D: T.Tensor((128,), "float32"), C: T.Tensor((128, 128), "float32")):
        with T.Kernel(8, 8) as (bx, by):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            bias, scale = T.alloc_shared((16,), "float32"), T.alloc_var("float32")
            T.copy(D[bx * 16], bias)
            scale = 2
            for i, j in T.Parallel(16, 16):
                c[i, j] = bias[j] * scale
            for k in T.serial(5):
                T.copy(A[by * 16, k * 8], a)
                T.copy(B[k * 8, bx * 16], b)
                T.gemm(a, b, c)
            if by % 2 == 1:
                T.clear(c)
            scale = scale + by
            for i, j in T.Parallel(16, 16):
                c[i, j] += scale
            T.copy(c, C[by * 16, bx * 16])

    assert groups(kernel) is not None
    arguments = {**operands(128, 128, 40), "D": integers((128,), seed=5)}
    i = np.indices((128, 128))[0] // 16
    wanted = np.where(i % 2 == 1, 0, exact(arguments) + 2 * arguments["D"]) + 2 + i
    np.testing.assert_array_equal(agree(kernel, arguments, group_blocks)["C"], wanted)
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], wanted)


def test_three_dimensions() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((3, 100, 24), "float32"), B: T.Tensor((3, 24, 90), "float32"), C: T.Tensor((3, 100, 90), "float32")):
        with T.Kernel(T.ceildiv(90, 16), T.ceildiv(100, 16), 3) as (bx, by, bz):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(3):
                T.copy(A[bz, by * 16, k * 8], a)
                T.copy(B[bz, k * 8, bx * 16], b)
                T.gemm(a, b, c)
            T.copy(c, C[bz, by * 16, bx * 16])

    assert groups(kernel) is not None
    arguments = {"A": integers((3, 100, 24)), "B": integers((3, 24, 90), seed=1), "C": np.zeros((3, 100, 90), np.float32)}
    np.testing.assert_array_equal(agree(kernel, arguments, group_blocks)["C"], arguments["A"] @ arguments["B"])


def test_several_loops_and_accumulators() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((128, 32), "float32"), B: T.Tensor((32, 128), "float32"), C: T.Tensor((2, 128, 128), "int32")):
        with T.Kernel(8, 8) as (bx, by):
            a, b = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32")
            c, d = T.alloc_fragment((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            T.fill(d, bx)
            for k in T.serial(4):
                T.copy(A[by * 16, k * 8], a)
                T.copy(B[k * 8, bx * 16], b)
                for i, j in T.Parallel(16, 8):
                    a[i, j] = a[i, j] + k
                T.gemm(a, b, c)
            for i, j in T.Parallel(16, 16):
                d[i, j] += c[i, j]
            for k in T.serial(2):
                T.copy(A[by * 16, k * 16], a)
                T.copy(B[k * 16, bx * 16], b)
                T.gemm(a, b, d)
            T.copy(c, C[0, by * 16, bx * 16])
            T.copy(d, C[1, by * 16, bx * 16])

    assert groups(kernel) is not None
    arguments = {**operands(128, 128, 32), "C": np.zeros((2, 128, 128), np.int32)}
    a, b = arguments["A"].astype(np.int64), arguments["B"].astype(np.int64)
    first = (a + np.arange(32) // 8) @ b
    second = first + np.indices((128, 128))[1] // 16 + a[:, :8] @ b[:8] + a[:, 16:24] @ b[16:24]
    np.testing.assert_array_equal(agree(kernel, arguments, group_blocks)["C"], [first, second])


def test_serial_loops_and_branches_of_one_block() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((128, 16), "float32"), B: T.Tensor((16, 128), "float32"), C: T.Tensor((128, 128), "float32")):
        with T.Kernel(8, 8) as (bx, by):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(2):
                T.copy(A[by * 16, k * 8], a)
                T.copy(B[k * 8, bx * 16], b)
                T.gemm(a, b, c)
                for t in T.serial(3):
                    if t == 2:
                        break
                    for i in T.Parallel(16):
                        c[i, t] = c[i, t] + bx * k
            T.copy(c, C[by * 16, bx * 16])

    arguments = operands(128, 128, 16)
    wanted = exact(arguments)
    for x in range(8):
        wanted[:, 16 * x : 16 * x + 2] += x
    assert groups(kernel) is not None
    np.testing.assert_array_equal(agree(kernel, arguments, group_blocks)["C"], wanted)


# -- several steps of one block


def attention_like(heads: int, m: int, n: int, passes_on: bool = False, has_mask: bool = False) -> PrimFunc:
    """C[h] = the running sum over tiles of keys of relu(Q K^T - row maximum) V, in integers; with `passes_on` scores start from those of the step before."""

    @T.prim_func
    def kernel(
        Q: T.Tensor((heads, m, 8), "int32"), K: T.Tensor((heads, n, 8), "int32"), V: T.Tensor((heads, n, 8), "int32"), C: T.Tensor((heads, m, 8), "int32")
    ):
        with T.Kernel(T.ceildiv(m, 16), heads) as (bx, by):
            q, k, v = T.alloc_shared((16, 8), "int32"), T.alloc_shared((32, 8), "int32"), T.alloc_shared((32, 8), "int32")
            scores, sums = T.alloc_fragment((16, 32), "int32"), T.alloc_fragment((16, 8), "int32")
            largest, before = T.alloc_fragment((16,), "int32"), T.alloc_fragment((16,), "int32")
            T.copy(Q[by, bx * 16, 0], q)
            T.clear(sums)
            if passes_on:
                T.clear(scores)
            T.fill(largest, -100)
            for step in T.Pipelined(T.ceildiv(n, 32), num_stages=2):
                T.copy(K[by, step * 32, 0], k)
                if has_mask:
                    for i, j in T.Parallel(16, 32):
                        scores[i, j] = T.if_then_else(step * 32 + j < n, bx, -1000)
                elif not passes_on:
                    T.clear(scores)
                T.gemm(q, k, scores, transpose_B=True)
                T.copy(largest, before)
                T.reduce_max(scores, largest, dim=1, clear=False)
                for i, j in T.Parallel(16, 32):
                    scores[i, j] = T.max(scores[i, j] - largest[i], -5) + before[i] % 3
                T.copy(V[by, step * 32, 0], v)
                T.gemm(scores, v, sums)
            T.copy(sums, C[by, bx * 16, 0])

    return kernel


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize(("m", "n"), [(64, 64), (640, 64), (250, 90)])
@pytest.mark.parametrize("options", [{}, {"passes_on": True}, {"has_mask": True}])
def test_blocks_of_one_axis_share_what_does_not_depend_on_it(heads: int, m: int, n: int, options: dict[str, bool]) -> None:
    kernel = attention_like(heads, m, n, **options)
    count = groups(kernel)
    assert count is None if m == 64 else count is not None and count[1] == 1  # as long as enough tasks are left
    arguments = {name: integers((heads, rows, 8), np.int32, -3, seed=seed) for seed, (name, rows) in enumerate([("Q", m), ("K", n), ("V", n), ("C", m)])}
    found = agree(kernel, arguments, group_blocks)["C"]
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], found)


def test_a_block_runs_its_steps_one_behind_the_other_with_a_tile_that_all_blocks_use_in_turn() -> None:
    program, _context = after(attention_like(2, 640, 64), group_blocks)
    launch = program.launches[0]
    shapes = {b.name: b.shape for b in launch.buffers}
    assert shapes["scores"] == (16, 32) and shapes["sums"][1:] == (16, 8) and shapes["largest"][1:] == (16,)
    (steps,) = [s.body.body for s in launch.body.body if isinstance(s, For) and s.kind is LoopKind.PIPELINED]
    assert [type(step) for step in steps] == [Copy, Copy, For]


def test_a_tile_that_carries_values_from_step_to_step_is_kept_for_each_block() -> None:
    program, _context = after(attention_like(2, 640, 64, passes_on=True), group_blocks)
    assert next(b.rank for b in program.launches[0].buffers if b.name == "scores") == 3


# -- operands that are read in place: neighbours lie side by side


def check_few_rows(kernel: PrimFunc, arguments: dict[str, Any], is_grouped: bool = True) -> None:
    """The same with and without groups, and as the reference has it."""
    assert (groups(kernel) is not None) is is_grouped
    found = agree(kernel, arguments, group_blocks)["C"]
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], found)


def test_statements_behind_a_product_whose_operand_is_read_in_place() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((4, 64), "float32"), B: T.Tensor((64, 128), "float32"), C: T.Tensor((4, 128), "float32")):
        with T.Kernel(8) as bx:
            a = T.alloc_shared((4, 16), "float32")
            b = T.alloc_shared((16, 16), "float32")
            c = T.alloc_fragment((4, 16), "float32")
            T.clear(c)
            for k in T.Pipelined(4):
                T.copy(A[0, k * 16], a)
                T.copy(B[k * 16, bx * 16], b)
                T.gemm(a, b, c)
                for i, j in T.Parallel(4, 16):
                    c[i, j] = c[i, j] * 2
            T.copy(c, C[0, bx * 16])

    check_few_rows(kernel, {"A": integers((4, 64)), "B": integers((64, 128), seed=1), "C": np.zeros((4, 128), np.float32)})


def test_a_product_of_rows_that_each_block_has_for_itself() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((8, 64), "float32"), B: T.Tensor((64, 128), "float32"), C: T.Tensor((8, 16), "float32")):
        with T.Kernel(8) as bx:
            a = T.alloc_shared((1, 16), "float32")
            b = T.alloc_shared((16, 16), "float32")
            c = T.alloc_fragment((1, 16), "float32")
            T.clear(c)
            for k in T.Pipelined(4):
                T.copy(A[bx, k * 16], a)
                T.copy(B[k * 16, bx * 16], b)
                for i, j in T.Parallel(1, 16):
                    a[i, j] = a[i, j] + 1
                T.gemm(a, b, c)
            T.copy(c, C[bx, 0])

    check_few_rows(kernel, {"A": integers((8, 64)), "B": integers((64, 128), seed=1), "C": np.zeros((8, 16), np.float32)}, is_grouped=False)


def test_a_product_behind_the_loop_whose_operand_does_not_lie_side_by_side() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((32, 16), "float32"), B: T.Tensor((16, 8), "float32"), D: T.Tensor((40, 8), "float32"), C: T.Tensor((2, 32, 8), "float32")):
        with T.Kernel(32) as by:
            a = T.alloc_fragment((1, 8), "float32")
            b = T.alloc_fragment((8, 8), "float32")
            c = T.alloc_fragment((1, 8), "float32")
            d = T.alloc_fragment((8, 8), "float32")
            e = T.alloc_fragment((1, 8), "float32")
            for k in T.Pipelined(2):
                T.copy(A[by, k * 8], a)
                T.copy(B[k * 8, 0], b)
                for i, j in T.Parallel(8, 8):
                    b[i, j] = b[i, j] + 1
                T.gemm(a, b, c, clear_accum=True)
            T.copy(D[by, 0], d)
            T.gemm(a, d, e, clear_accum=True)
            T.copy(c, C[0, by, 0])
            T.copy(e, C[1, by, 0])

    arguments = {"A": integers((32, 16)), "B": integers((16, 8), seed=1), "D": integers((40, 8), seed=2), "C": np.zeros((2, 32, 8), np.float32)}
    check_few_rows(kernel, arguments)


# -- what must run block by block


def test_leaving_the_loop_early() -> None:
    """Each block leaves at its own turn: blocks in lockstep cannot."""

    @T.prim_func
    def kernel(A: T.Tensor((128, 64), "float32"), B: T.Tensor((64, 128), "float32"), C: T.Tensor((128, 128), "float32")):
        with T.Kernel(8, 8) as (bx, by):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(8):
                if k > bx:
                    break
                if k == by:
                    continue
                T.copy(A[by * 16, k * 8], a)
                T.copy(B[k * 8, bx * 16], b)
                T.gemm(a, b, c)
            T.copy(c, C[by * 16, bx * 16])

    def wanted(arguments: dict[str, Any]) -> Any:
        made = np.zeros((128, 128))
        for x in range(8):
            for y in range(8):
                for k in [k for k in range(x + 1) if k != y]:
                    made[16 * y : 16 * y + 16, 16 * x : 16 * x + 16] += (
                        arguments["A"][16 * y : 16 * y + 16, 8 * k : 8 * k + 8] @ arguments["B"][8 * k : 8 * k + 8, 16 * x : 16 * x + 16]
                    )
        return made

    check(kernel, 128, 128, 64, is_grouped=False, wanted=wanted)


def test_loops_of_different_lengths() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((128, 64), "float32"), B: T.Tensor((64, 128), "float32"), C: T.Tensor((128, 128), "float32")):
        with T.Kernel(8, 8) as (bx, by):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(by + 1):
                T.copy(A[by * 16, k * 8], a)
                T.copy(B[k * 8, bx * 16], b)
                T.gemm(a, b, c)
            T.copy(c, C[by * 16, bx * 16])

    def wanted(arguments: dict[str, Any]) -> Any:
        a = arguments["A"] * (np.arange(64) // 8 <= np.arange(128)[:, None] // 16)
        return a @ arguments["B"]

    check(kernel, 128, 128, 64, is_grouped=False, wanted=wanted)


def test_values_with_names() -> None:
    """A name at the level of the block would have to hold one value per block of the group."""

    @T.prim_func
    def kernel(A: T.Tensor((128, 16), "float32"), B: T.Tensor((16, 128), "float32"), I: T.Tensor((8,), "int32"), C: T.Tensor((128, 128), "float32")):
        with T.Kernel(8, 8) as (bx, by):
            a, b, c = T.alloc_shared((16, 16), "float32"), T.alloc_shared((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            row = I[by]
            T.clear(c)
            for _ in T.serial(1):
                T.copy(A[row * 16, 0], a)
                T.copy(B[0, bx * 16], b)
                T.gemm(a, b, c)
            T.copy(c, C[by * 16, bx * 16])

    assert groups(kernel) is None
    arguments = {**operands(128, 128, 16), "I": np.array([3, 1, 2, 0, 7, 6, 5, 4], np.int32)}
    wanted = exact(arguments).reshape(8, 16, 128)[arguments["I"]].reshape(128, 128)
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], wanted)


def test_views_run_alone() -> None:
    def view(ko: Any, a: Any, b: Any, c: Any) -> None:
        T.reshape(a, (128,))[5] = 0

    assert groups(product(128, 128, 32, step=view)) is None


def test_safe_values_of_the_block() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((120, 16), "float32"), B: T.Tensor((16, 128), "float32"), C: T.Tensor((128, 128), "float32")):
        with T.Kernel(8, 8) as (bx, by):
            T.annotate_safe_value({A: bx})
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(2):
                T.copy(A[by * 16, k * 8], a)
                T.copy(B[k * 8, bx * 16], b)
                T.gemm(a, b, c)
            T.copy(c, C[by * 16, bx * 16])

    arguments = {**operands(120, 128, 16), "C": np.zeros((128, 128), np.float32)}
    wanted = np.zeros((128, 128))
    wanted[:120] = exact(arguments)
    wanted[120:] = (np.arange(128) // 16) * arguments["B"].sum(0)
    np.testing.assert_array_equal(agree(kernel, arguments, group_blocks)["C"], wanted)
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], wanted)


def test_nothing_to_share() -> None:
    assert groups(product(16, 16, 64)) is None

    @T.prim_func
    def elementwise(A: T.Tensor((128,), "float32"), B: T.Tensor((128,), "float32")):
        with T.Kernel(8) as bx:
            for i in T.Parallel(16):
                B[bx * 16 + i] = A[bx * 16 + i]

    assert groups(elementwise) is None
