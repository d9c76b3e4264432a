"""A first product that overwrites instead of a clear: when it may, when something else needs the zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import run
from tests.passes.products import after, agree, all_of, exact, operands, product
from tilewright.language.function import PrimFunc
from tilewright.ops.fill import Fill
from tilewright.ops.gemm import Gemm
from tilewright.passes.fold_clear import fold_clear


def is_folded(prim_func: PrimFunc) -> bool:
    program, _ = after(prim_func, fold_clear)
    fills, products = all_of(program.launches[0], Fill), all_of(program.launches[0], Gemm)
    assert len(fills) == len(all_of(prim_func.program.launches[0], Fill)) - any(not g.clear.is_const or g.clear.value for g in products)
    return len(fills) < len(all_of(prim_func.program.launches[0], Fill))


@pytest.mark.parametrize(("operand", "accumulator"), [("float32", "float32"), ("float16", "float16"), ("int8", "int32")])
@pytest.mark.parametrize("k", [8, 512, 513])
def test_a_clear_before_the_loop(operand: str, accumulator: str, k: int) -> None:
    kernel = product(16, 16, k, 16, 16, 8, operand, accumulator)
    assert is_folded(kernel)
    arguments = operands(16, 16, k, operand, accumulator)
    np.testing.assert_array_equal(agree(kernel, arguments, fold_clear)["C"], exact(arguments).astype(accumulator))


def test_a_loop_that_may_not_run() -> None:
    kernel = product(16, 16, T.dynamic("k"))
    assert not is_folded(kernel)
    np.testing.assert_array_equal(run(kernel, **operands(16, 16, 0))["C"], 0)


def staged(before: Any = None, inside: Any = None, behind: Any = None, value: Any = 0, region: Any = None) -> PrimFunc:
    """`fill; before; for k: (copies; inside; product); behind`; the loop stands in an outer one of three turns."""

    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            held, flag = T.alloc_fragment((16, 16), "float32"), T.alloc_var("int32")
            T.clear(held)
            T.fill(c if region is None else c[region], value)
            if before is not None:
                before(c, held, flag)
            for k in T.serial(8):
                T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
                if inside is not None:
                    inside(c, held, k)
                T.gemm(a, b, c)
            if behind is not None:
                behind(c, held, flag)
            for i, j in T.Parallel(16, 16):
                C[i, j] = c[i, j] + held[i, j]

    return kernel


def test_what_others_do_with_the_tile() -> None:
    @T.macro
    def add(c: Any, held: Any, k: Any) -> None:
        for i, j in T.Parallel(16, 16):
            held[i, j] += c[i, j]

    def view(c: Any, held: Any, flag: Any) -> None:
        T.reshape(c, (256,))[3] = 5

    arguments = operands(16, 16, 64)
    total = exact(arguments)
    assert is_folded(staged(behind=add))
    np.testing.assert_array_equal(agree(staged(behind=add), arguments, fold_clear)["C"], 2 * total)
    sums = sum(arguments["A"][:, : 8 * k] @ arguments["B"][: 8 * k] for k in range(8))
    assert not is_folded(staged(inside=add)) and not is_folded(staged(before=add))
    np.testing.assert_array_equal(run(staged(inside=add), **arguments)["C"], total + sums)
    assert not is_folded(staged(before=view))
    wanted = total.copy()
    wanted[0, 3] += 5
    np.testing.assert_array_equal(run(staged(before=view), **arguments)["C"], wanted)


def test_only_zeros_of_the_whole_tile() -> None:
    arguments = operands(16, 16, 64)
    assert not is_folded(staged(value=1))
    np.testing.assert_array_equal(run(staged(value=1), **arguments)["C"], exact(arguments) + 1)
    assert not is_folded(staged(region=(slice(0, 8), slice(None))))


@pytest.mark.parametrize("leaving", ["break", "continue"])
def test_a_first_turn_that_does_not_reach_the_product(leaving: str) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), n: T.int32, C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(8):
                if k < n:
                    if leaving == "break":
                        break
                    else:
                        continue
                T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)

    assert not is_folded(kernel)
    arguments = operands(16, 16, 64)
    wanted = 0 if leaving == "break" else arguments["A"][:, 16:] @ arguments["B"][16:]
    np.testing.assert_array_equal(run(kernel, n=2, **arguments)["C"], np.zeros((16, 16)) + wanted)


def test_leaving_between_the_clear_and_the_loop() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 8), "float32"), B: T.Tensor((8, 16), "float32"), n: T.int32, C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.copy(A, a)
            T.copy(B, b)
            for t in T.serial(4):
                T.clear(c)
                if t == n:
                    break
                for _ in T.serial(2):
                    T.gemm(a, b, c)
            T.copy(c, C)

    assert not is_folded(kernel)
    arguments = operands(16, 16, 8)
    np.testing.assert_array_equal(run(kernel, n=2, **arguments)["C"], 0)
    np.testing.assert_array_equal(run(kernel, n=9, **arguments)["C"], 2 * exact(arguments))


def test_a_product_in_a_branch() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(8):
                T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
                if k > 2:
                    T.gemm(a, b, c)
            T.copy(c, C)

    assert not is_folded(kernel)
    arguments = operands(16, 16, 64)
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], arguments["A"][:, 24:] @ arguments["B"][24:])


@pytest.mark.parametrize("is_read_between", [False, True])
def test_a_clear_before_a_product(is_read_between: bool) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            largest = T.alloc_fragment((16, 16), "float32")
            T.fill(largest, -T.infinity("float32"))
            for k in T.serial(8):
                T.clear(c)
                T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
                if is_read_between:
                    for i, j in T.Parallel(16, 16):
                        largest[i, j] = T.max(largest[i, j], c[i, j])
                T.gemm(a, b, c)
                for i, j in T.Parallel(16, 16):
                    largest[i, j] = T.max(largest[i, j], c[i, j])
            T.copy(largest, C)

    assert is_folded(kernel) is not is_read_between
    arguments = operands(16, 16, 64)
    steps = [arguments["A"][:, k : k + 8] @ arguments["B"][k : k + 8] for k in range(0, 64, 8)]
    wanted = np.max(steps, axis=0)
    np.testing.assert_array_equal(agree(kernel, arguments, fold_clear)["C"], np.maximum(wanted, 0) if is_read_between else wanted)
