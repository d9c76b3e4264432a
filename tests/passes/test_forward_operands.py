"""Products that read their first operand where it lies: when they may, when they must not, with the same sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, run
from tests.passes.products import after, agree, all_of, exact, operands, product
from tilewright.language.function import PrimFunc
from tilewright.ops.copy import Copy
from tilewright.ops.gemm import Gemm
from tilewright.passes.forward_operands import forward_operands


def forwarded(prim_func: PrimFunc) -> list[str]:
    """Names of the tensors that products read in place."""
    program, _ = after(prim_func, forward_operands)
    return [g.a.buffer.name for launch in program.launches for g in all_of(launch, Gemm) if g.a.buffer.scope.value == "global"]


def copies(prim_func: PrimFunc) -> int:
    program, _ = after(prim_func, forward_operands)
    return sum(len(all_of(launch, Copy)) for launch in program.launches)


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(32, 32, 64), (32, 30, 60)])
def test_whole_tiles_of_a_tensor(m: int, n: int, k: int, ta: bool) -> None:
    """The depth needs no multiple of the step once the steps are merged, but its remainder must be inside."""
    kernel = product(m, n, k, ta=ta)
    assert forwarded(kernel) == (["A"] if k % 8 == 0 else [])
    assert copies(kernel) == (2 if k % 8 == 0 else 3)
    arguments = operands(m, n, k, ta=ta)
    np.testing.assert_array_equal(agree(kernel, arguments, forward_operands)["C"], exact(arguments, ta))


def test_rows_beyond_the_tensor_need_the_clipping_of_the_copy() -> None:
    kernel = product(33, 32, 64)
    assert forwarded(kernel) == []
    arguments = operands(33, 32, 64)
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], exact(arguments))


def test_a_dynamic_depth_is_not_proven_inside() -> None:
    kernel = product(32, 32, T.dynamic("k"))
    assert forwarded(kernel) == []
    arguments = operands(32, 32, 27)
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], exact(arguments))


def test_dynamic_columns_do_not_matter() -> None:
    kernel = product(32, T.dynamic("n"), 32)
    assert forwarded(kernel) == ["A"]
    arguments = operands(32, 27, 32)
    np.testing.assert_array_equal(agree(kernel, arguments, forward_operands)["C"], exact(arguments))


def test_a_conversion_needs_the_copy() -> None:
    kernel = product(32, 32, 64, operand="float16")
    assert forwarded(kernel) == []
    arguments = operands(32, 32, 64, operand="float16")
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], exact(arguments))


@pytest.mark.parametrize("strides", [(40, 1), (1, 20), (100, 2)])
def test_strides_of_the_tensor(strides: tuple[int, int]) -> None:
    @T.prim_func
    def kernel(A: T.StridedTensor((16, 32), strides, "float32"), B: T.Tensor((32, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 16), "float32"), T.alloc_shared((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(2):
                T.copy(A[0, k * 16], a)
                T.copy(B[k * 16, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)

    assert forwarded(kernel) == ["A"]
    memory = integers((2000,))
    a = np.lib.stride_tricks.as_strided(memory, (16, 32), (strides[0] * 4, strides[1] * 4))
    b = integers((32, 16), seed=1)
    np.testing.assert_array_equal(run(kernel, A=a, B=b, C=np.zeros((16, 16), np.float32))["C"], a @ b)


def test_strides_known_only_at_run_time() -> None:
    ld = T.dynamic("ld")

    @T.prim_func
    def kernel(A: T.StridedTensor((16, 16), (ld, 1), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, c = T.alloc_shared((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            b = T.alloc_shared((16, 16), "float32")
            T.copy(A, a)
            T.copy(A, b)
            T.gemm(a, b, c, clear_accum=True)
            T.copy(c, C)

    assert forwarded(kernel) == []
    memory = integers((16, 21))
    np.testing.assert_array_equal(run(kernel, A=memory[:, :16], C=np.zeros((16, 16), np.float32))["C"], memory[:, :16] @ memory[:, :16])


def batched(statement: Any) -> PrimFunc:
    """One product of a staged tile, with `statement` between the copy and the product."""

    @T.prim_func
    def kernel(A: T.Tensor((3, 16, 16), "float32"), B: T.Tensor((16, 16), "float32"), C: T.Tensor((3, 16, 16), "float32"), I: T.Tensor((1,), "int32")):
        with T.Kernel(3) as bx:
            a, b, c, index = (
                T.alloc_shared((16, 16), "float32"),
                T.alloc_shared((16, 16), "float32"),
                T.alloc_fragment((16, 16), "float32"),
                T.alloc_shared((1,), "int32"),
            )
            T.copy(I, index)
            T.copy(A[(bx + index[0]) % 3, 0, 0], a)
            T.copy(B, b)
            statement(A, a, b, c, index)
            T.gemm(a, b, c, clear_accum=True)
            T.copy(c, C[bx, :, :])

    return kernel


def batched_arguments() -> dict[str, Any]:
    return {"A": integers((3, 16, 16)), "B": integers((16, 16), seed=1), "C": np.zeros((3, 16, 16), np.float32), "I": np.array([1], np.int32)}


def nothing(A: Any, a: Any, b: Any, c: Any, index: Any) -> None:
    pass


def change_index(A: Any, a: Any, b: Any, c: Any, index: Any) -> None:
    index[0] = 2


def change_tile(A: Any, a: Any, b: Any, c: Any, index: Any) -> None:
    T.clear(a[0:8, :])


def read_tile(A: Any, a: Any, b: Any, c: Any, index: Any) -> None:
    b[0, 0] = a[1, 1]


def write_tensor(A: Any, a: Any, b: Any, c: Any, index: Any) -> None:
    A[0, 0, 0] = A[0, 0, 0]


def test_one_matrix_of_many() -> None:
    arguments = batched_arguments()
    rolled = np.roll(arguments["A"], -1, 0)
    assert forwarded(batched(nothing)) == ["A"]
    np.testing.assert_array_equal(agree(batched(nothing), arguments, forward_operands)["C"], rolled @ arguments["B"])


def test_a_place_that_changes_between_copy_and_product() -> None:
    arguments = batched_arguments()
    np.testing.assert_array_equal(agree(batched(change_index), arguments, forward_operands)["C"], np.roll(arguments["A"], -1, 0) @ arguments["B"])


def test_a_tile_that_changes_or_is_read_elsewhere() -> None:
    arguments = batched_arguments()
    rolled, b = np.roll(arguments["A"], -1, 0), arguments["B"]
    assert forwarded(batched(change_tile)) == forwarded(batched(read_tile)) == []
    half = rolled.copy()
    half[:, :8] = 0
    np.testing.assert_array_equal(run(batched(change_tile), **arguments)["C"], half @ b)
    changed = np.stack([b] * 3)
    changed[:, 0, 0] = rolled[:, 1, 1]
    np.testing.assert_array_equal(run(batched(read_tile), **arguments)["C"], rolled @ changed)


def test_a_tensor_that_the_launch_writes() -> None:
    assert forwarded(batched(write_tensor)) == []


def test_a_tile_that_is_also_the_second_operand() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, c = T.alloc_shared((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.copy(A, a)
            T.gemm(a, a, c, clear_accum=True)
            T.copy(c, C)

    assert forwarded(kernel) == []
    a = integers((16, 16))
    np.testing.assert_array_equal(run(kernel, A=a, C=np.zeros_like(a))["C"], a @ a)


def test_a_copy_in_a_branch_of_its_own() -> None:
    """The product runs whether the copy did or not."""

    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "float32"), B: T.Tensor((16, 16), "float32"), n: T.int32, C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 16), "float32"), T.alloc_shared((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.copy(B, b)
            T.clear(c)
            for k in T.serial(2):
                if n > k:
                    T.copy(A, a)
                T.gemm(a, b, c)
            T.copy(c, C)

    assert forwarded(kernel) == []
    arguments = operands(16, 16, 16)
    np.testing.assert_array_equal(run(kernel, n=1, **arguments)["C"], 2 * exact(arguments))


def test_a_view_of_the_tile() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "float32"), B: T.Tensor((16, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 16), "float32"), T.alloc_shared((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            flat = T.reshape(a, (256,))
            T.copy(A, a)
            T.copy(B, b)
            T.gemm(a, b, c, clear_accum=True)
            c[0, 0] = flat[18]
            T.copy(c, C)

    assert forwarded(kernel) == []
    arguments = operands(16, 16, 16)
    wanted = exact(arguments)
    wanted[0, 0] = arguments["A"][1, 2]
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], wanted)


def test_memory_behind_a_pointer() -> None:
    @T.prim_func
    def kernel(p: T.ptr, B: T.Tensor((16, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            A = T.make_tensor(p, (16, 16), "float32")
            a, b, c = T.alloc_shared((16, 16), "float32"), T.alloc_shared((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.copy(A, a)
            T.copy(B, b)
            T.gemm(a, b, c, clear_accum=True)
            T.copy(c, C)

    assert forwarded(kernel) == []
    arguments = operands(16, 16, 16)
    arguments["p"] = arguments.pop("A")
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], arguments["p"] @ arguments["B"])
