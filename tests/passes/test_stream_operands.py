"""Products of few rows that read their second operand where it lies: when they may, when they must not, with the same sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, run
from tests.passes.products import after, agree, all_of, exact, operands, product
from tilewright.ir.stmt import For, StreamMultiply
from tilewright.language.function import PrimFunc
from tilewright.ops.gemm import Gemm
from tilewright.passes.group_blocks import group_blocks
from tilewright.passes.lower_tile_ops import lower_tile_ops
from tilewright.passes.merge_depth import STREAM_DEPTH, merge_depth
from tilewright.passes.stream_operands import stream_operands

ROWS = 4  # fits the registers of every target


def streamed(prim_func: PrimFunc) -> int:
    """Products that read the second operand in place."""
    program, _ = after(prim_func, stream_operands)
    return sum(g.is_streamed for launch in program.launches for g in all_of(launch, Gemm))


def check(kernel: PrimFunc, n: int, k: int, m: int = ROWS, is_streamed: bool = True, **options: Any) -> None:
    assert bool(streamed(kernel)) is is_streamed
    arguments = operands(m, n, k, **options)
    found = agree(kernel, arguments, stream_operands)["C"]
    wanted = exact(arguments, **{name: value for name, value in options.items() if name in ("ta", "tb")})
    np.testing.assert_array_equal(found, wanted.astype(found.dtype))


@pytest.mark.parametrize(("ta", "tb"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize(("n", "k"), [(64, 64), (61, 45), (5, 3), (700, 90)])
@pytest.mark.parametrize("m", [1, ROWS])
def test_orientations_and_ragged_sizes(m: int, n: int, k: int, ta: bool, tb: bool) -> None:
    check(product(m, n, k, bm=m, ta=ta, tb=tb), n, k, m, ta=ta, tb=tb)


@pytest.mark.parametrize(
    ("operand", "accumulator"),
    [("float16", "float32"), ("bfloat16", "float32"), ("float16", "float16"), ("int8", "int32"), ("float64", "float64"), ("float8_e4m3fn", "float32")],
)
@pytest.mark.parametrize("tb", [False, True])
def test_dtypes(operand: str, accumulator: str, tb: bool) -> None:
    check(product(ROWS, 200, 70, ROWS, 16, 8, operand, accumulator, tb=tb), 200, 70, operand=operand, accumulator=accumulator, tb=tb)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (300, 20), (33, 100), (1024, 2500)])
@pytest.mark.parametrize("tb", [False, True])
def test_dynamic_columns_and_depth(n: int, k: int, tb: bool) -> None:
    check(product(ROWS, *T.dynamic("n, k"), bm=ROWS, tb=tb), n, k, tb=tb)


def test_many_rows_are_packed() -> None:
    check(product(64, 32, 32, bm=64), 32, 32, 64, is_streamed=False)
    check(product(64, 32, 32, bm=ROWS), 32, 32, 64, is_streamed=False)  # few at a time, but the operand is used by all
    check(product(T.dynamic("m"), 32, 32, bm=ROWS), 32, 32, 10, is_streamed=False)


def test_steps_are_merged_far_and_blocks_grouped_wide() -> None:
    program, _ = after(product(ROWS, 4096, 4096, ROWS, 128, 32), lower_tile_ops)
    (multiply,), (steps, _) = all_of(program.launches[0], StreamMultiply), all_of(program.launches[0], For)
    assert multiply.blocks * multiply.columns == 2048 and steps.extent.value * STREAM_DEPTH == 4096
    program, _ = after(product(ROWS, 4096, 4096, ROWS, 128, 32, tb=True), lower_tile_ops)
    (multiply,) = all_of(program.launches[0], StreamMultiply)
    assert multiply.blocks == 1 and multiply.is_transposed


@pytest.mark.parametrize("n", [2048, 2000, 5000])
def test_an_epilogue_of_every_block_of_a_group(n: int) -> None:
    @T.macro
    def epilogue(c: Any, bx: Any, by: Any) -> None:
        for i, j in T.Parallel(ROWS, 64):
            c[i, j] = T.max(c[i, j] + (bx * 64 + j) % 7 - i, 0)

    kernel = product(ROWS, n, 100, ROWS, 64, 32, epilogue=epilogue)
    assert streamed(kernel)
    arguments = operands(ROWS, n, 100)
    i, j = np.indices((ROWS, n))
    np.testing.assert_array_equal(agree(kernel, arguments, stream_operands, merge_depth, group_blocks)["C"], np.maximum(exact(arguments) + j % 7 - i, 0))


def test_a_narrow_accumulator_of_a_group() -> None:
    check(product(ROWS, 600, 64, ROWS, 64, 16, "float16", "float16"), 600, 64, operand="float16", accumulator="float16")


def one_product(
    statement: Any = None, start: Any = 0, strides: tuple[int, int] = (40, 1), safe: Any = None, is_depth_equal: bool = True, before: Any = None
) -> PrimFunc:
    """C = A @ part of B, with a statement between the copy and the product, and one before the copy."""
    k = 16 if is_depth_equal else 30

    @T.prim_func
    def kernel(A: T.Tensor((ROWS, k), "float32"), B: T.StridedTensor((16, 40), strides, "float32"), C: T.Tensor((ROWS, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((ROWS, 24), "float32"), T.alloc_shared((24, 16), "float32"), T.alloc_fragment((ROWS, 16), "float32")
            if safe is not None:
                T.annotate_safe_value({B: safe})
            T.clear(c)
            if before is not None:
                before(B, b, c)
            T.copy(A[0, 0], a)
            T.copy(B[0:24, start : start + 16], b)
            if statement is not None:
                statement(B, b, c)
            T.gemm(a, b, c)
            T.copy(c, C)

    return kernel


def run_one(kernel: PrimFunc, a_depth: int = 16, value: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b = integers((ROWS, a_depth)), integers((16, 40), seed=1)
    a[0, -1] = value
    return a, b, run(kernel, A=a, B=b, C=np.zeros((ROWS, 16), np.float32))["C"]


def test_a_depth_that_ends_within_the_tile() -> None:
    kernel = one_product(start=10)
    assert streamed(kernel)
    a, b, found = run_one(kernel)
    np.testing.assert_array_equal(found, a @ b[:, 10:26])


def test_columns_that_end_within_the_tile() -> None:
    kernel = one_product(start=30)
    assert streamed(kernel)
    a, b, found = run_one(kernel)
    np.testing.assert_array_equal(found, a @ np.pad(b, ((0, 0), (0, 16)))[:, 30:46])


def test_a_first_operand_that_goes_on_behind_the_end_of_the_second() -> None:
    """An infinite element there meets the zeros of the padding."""
    kernel = one_product(is_depth_equal=False)
    assert not streamed(kernel)
    _, _, found = run_one(kernel, 30)
    assert np.isfinite(found).all()
    a, b = integers((ROWS, 30)), integers((16, 40), seed=1)
    a[0, 20] = np.inf
    assert np.isnan(run(kernel, A=a, B=b, C=np.zeros((ROWS, 16), np.float32))["C"][0]).all()


def test_infinities_meet_absent_columns() -> None:
    _, _, found = run_one(one_product(start=30), value=np.inf)
    assert np.isnan(found[0, 10:]).all() and not found[1:, 10:].any()


def test_a_start_before_the_tensor() -> None:
    kernel = one_product(start=-3)
    assert not streamed(kernel)
    a, b, found = run_one(kernel)
    np.testing.assert_array_equal(found, a @ np.pad(b, ((0, 0), (3, 0)))[:, :16])


def test_another_safe_value() -> None:
    kernel = one_product(start=30, safe=2)
    assert not streamed(kernel)
    a, b, found = run_one(kernel)
    np.testing.assert_array_equal(found, a @ np.pad(b, ((0, 0), (0, 16)), constant_values=2)[:, 30:46])


def change_tile(B: Any, b: Any, c: Any) -> None:
    T.clear(b[0:2, :])


def use_twice(B: Any, b: Any, c: Any) -> None:
    T.gemm(b[0:ROWS, 0:16], b[0:16, :], c)


def write_tensor(B: Any, b: Any, c: Any) -> None:
    B[0, 0] = B[0, 0]


@pytest.mark.parametrize("statement", [change_tile, use_twice, write_tensor])
def test_tiles_and_tensors_that_are_used_otherwise(statement: Any) -> None:
    assert not streamed(one_product(statement))


def test_a_product_before_its_copy() -> None:
    """It reads what an earlier turn staged."""

    @T.prim_func
    def kernel(A: T.Tensor((ROWS, 64), "float32"), B: T.Tensor((64, 16), "float32"), C: T.Tensor((ROWS, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((ROWS, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((ROWS, 16), "float32")
            T.clear(c)
            T.clear(b)
            for k in T.serial(8):
                T.copy(A[0, k * 8], a)
                T.gemm(a, b, c)
                T.copy(B[k * 8, 0], b)
            T.copy(c, C)

    assert not streamed(kernel)
    arguments = operands(ROWS, 16, 64)
    wanted = arguments["A"][:, 8:] @ arguments["B"][:56]
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], wanted)


def test_a_tile_that_many_turns_of_a_loop_use() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((40, 16), "float32"), B: T.Tensor((16, 16), "float32"), C: T.Tensor((40, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((ROWS, 16), "float32"), T.alloc_shared((16, 16), "float32"), T.alloc_fragment((ROWS, 16), "float32")
            T.copy(B, b)
            for i in T.serial(10):
                T.copy(A[i * ROWS, 0], a)
                T.gemm(a, b, c, clear_accum=True)
                T.copy(c, C[i * ROWS, 0])

    assert not streamed(kernel)
    arguments = operands(40, 16, 16)
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], exact(arguments))


@pytest.mark.parametrize("head", [0, 2, 5])
def test_one_matrix_of_many(head: int) -> None:
    """A batch index outside the tensor gives zeros."""

    @T.prim_func
    def kernel(A: T.Tensor((ROWS, 32), "float32"), B: T.Tensor((3, 32, 40), "float32"), h: T.int32, C: T.Tensor((ROWS, 40), "float32")):
        with T.Kernel(3) as bx:
            a, b, c = T.alloc_shared((ROWS, 16), "float32"), T.alloc_shared((16, 16), "float32"), T.alloc_fragment((ROWS, 16), "float32")
            T.assume(h >= 0)
            T.clear(c)
            for k in T.serial(2):
                T.copy(A[0, k * 16], a)
                T.copy(B[h, k * 16, bx * 16], b)
                T.gemm(a, b, c)
            T.copy(c, C[0, bx * 16])

    assert streamed(kernel)
    a, b = integers((ROWS, 32)), integers((3, 32, 40), seed=1)
    found = run(kernel, A=a, B=b, h=head, C=np.ones((ROWS, 40), np.float32))["C"]
    np.testing.assert_array_equal(found, a @ b[head] if head < 3 else np.zeros((ROWS, 40)))


@pytest.mark.parametrize("strides", [(50, 1), (1, 20)])
def test_strides_of_the_tensor(strides: tuple[int, int]) -> None:
    kernel = one_product(strides=strides, start=8)
    assert streamed(kernel)
    a, memory = integers((ROWS, 16)), integers((1000,), seed=1)
    b = np.lib.stride_tricks.as_strided(memory, (16, 40), (strides[0] * 4, strides[1] * 4))
    found = run(kernel, A=a, B=b, C=np.zeros((ROWS, 16), np.float32))["C"]
    np.testing.assert_array_equal(found, a @ b[:, 8:24])


def test_a_row_vector_stays_a_matrix() -> None:
    """A copy of one row is one that products know: it is merged, and read in place."""
    program, context = after(product(1, 256, 512, 1, 64, 32), group_blocks)
    assert [g.a.buffer.name for g in all_of(program.launches[0], Gemm)] == ["A"]
