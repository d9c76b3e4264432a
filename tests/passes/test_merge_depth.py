"""Merging of reduction steps: where it happens, where it must not, and that the sums stay what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import run
from tests.passes.products import after, agree, all_of, exact, operands, product, without
from tilewright.ir.stmt import For
from tilewright.language.function import PrimFunc
from tilewright.ops.copy import Copy
from tilewright.ops.gemm import Gemm
from tilewright.passes.merge_depth import DEPTH, merge_depth
from tilewright.passes.stream_operands import stream_operands

# Products of few rows would not be staged.
STAGED = without(stream_operands)


def merged(prim_func: PrimFunc) -> tuple[Any, Any] | None:
    """The merged loop's extent and the depth of its product, None where nothing is merged."""
    program, context = after(prim_func, merge_depth, STAGED)
    if program.launches[0] is prim_func.program.launches[0]:
        assert not context.remarks
        return None
    assert any("merged" in r.text for r in context.remarks)
    (loop,), (multiply,) = all_of(program.launches[0], For), all_of(program.launches[0], Gemm)
    return loop.extent, multiply.depth


@pytest.mark.parametrize(("k", "turns", "rest"), [(512, 2, DEPTH), (64, 1, 64), (544, 3, None), (40, 1, None)])
@pytest.mark.parametrize(("ta", "tb"), [(False, False), (True, True)])
def test_steps_are_merged(k: int, turns: int, rest: int | None, ta: bool, tb: bool) -> None:
    kernel = product(32, 32, k, 32, 32, 32, ta=ta, tb=tb)
    found = merged(kernel)
    assert found is not None and found[0].value == turns
    assert found[1].value == rest if rest is not None else not found[1].is_const or found[1].value == 64
    program, _ = after(kernel, merge_depth, STAGED)
    deep = min(DEPTH, -(-k // 32) * 32)
    assert sorted(b.static_shape for b in program.launches[0].buffers) == sorted([(deep, 32) if ta else (32, deep), (32, deep) if tb else (deep, 32), (32, 32)])
    arguments = operands(32, 32, k, ta=ta, tb=tb)
    np.testing.assert_array_equal(agree(kernel, arguments, merge_depth, pipeline=STAGED)["C"], exact(arguments, ta, tb))


@pytest.mark.parametrize("k", [1, 31, 32, 33, 255, 256, 257, 300, 700])
def test_remainders_of_a_dynamic_depth(k: int) -> None:
    symbol = T.dynamic("k")
    kernel = product(24, 20, symbol, 24, 20, 32)
    assert merged(kernel) is not None
    arguments = operands(24, 20, k)
    np.testing.assert_array_equal(agree(kernel, arguments, merge_depth, pipeline=STAGED)["C"], exact(arguments))
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], exact(arguments))


@pytest.mark.parametrize(("operand", "accumulator"), [("float16", "float32"), ("int8", "int32"), ("bfloat16", "float32"), ("float64", "float64")])
def test_other_dtypes(operand: str, accumulator: str) -> None:
    kernel = product(20, 12, 200, 20, 12, 16, operand, accumulator)
    assert merged(kernel) is not None
    arguments = operands(20, 12, 200, operand, accumulator)
    np.testing.assert_array_equal(agree(kernel, arguments, merge_depth, pipeline=STAGED)["C"], exact(arguments))


def test_two_products_share_a_staged_tile() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 100), "float32"), B: T.Tensor((2, 100, 16), "float32"), C: T.Tensor((2, 16, 16), "float32")):
        with T.Kernel(1):
            a, b, d = T.alloc_shared((16, 16), "float32"), T.alloc_shared((16, 16), "float32"), T.alloc_shared((16, 16), "float32")
            c, e = T.alloc_fragment((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            T.clear(e)
            for k in T.serial(7):
                T.copy(A[0, k * 16], a)
                T.copy(B[0, k * 16, 0], b)
                T.copy(B[1, k * 16, 0], d)
                T.gemm(a, b, c)
                T.gemm(a, d, e)
            T.copy(c, C[0, :, :])
            T.copy(e, C[1, :, :])

    program, _ = after(kernel, merge_depth, STAGED)
    assert program.launches[0] is not kernel.program.launches[0] and len(all_of(program.launches[0], Copy)) == 5
    rng = np.random.default_rng(0)
    arguments = {
        "A": rng.integers(-3, 4, (16, 100)).astype(np.float32),
        "B": rng.integers(-3, 4, (2, 100, 16)).astype(np.float32),
        "C": np.zeros((2, 16, 16), np.float32),
    }
    np.testing.assert_array_equal(agree(kernel, arguments, merge_depth, pipeline=STAGED)["C"], arguments["A"] @ arguments["B"])


def test_two_loops_in_a_row() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((8, 48), "float32"), B: T.Tensor((48, 8), "float32"), C: T.Tensor((8, 8), "float32")):
        with T.Kernel(1):
            a, b, d, e = (T.alloc_shared((8, 8), "float32") for _ in [0, 1, 2, 3])
            c = T.alloc_fragment((8, 8), "float32")
            T.clear(c)
            for k in T.serial(3):
                T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
                T.gemm(a, b, c)
            for k in T.serial(3):
                T.copy(A[0, 24 + k * 8], d)
                T.copy(B[24 + k * 8, 0], e)
                T.gemm(d, e, c)
            T.copy(c, C)

    program, _ = after(kernel, merge_depth, STAGED)
    assert [loop.extent.value for loop in all_of(program.launches[0], For)] == [1, 1]
    arguments = operands(8, 8, 48)
    np.testing.assert_array_equal(agree(kernel, arguments, merge_depth, pipeline=STAGED)["C"], exact(arguments))


# -- where it must not happen; the results are checked all the same


def refuses(kernel: PrimFunc, m: int = 16, n: int = 16, k: int = 64, accumulator: str = "float32", wanted: Any = None, **options: Any) -> None:
    assert merged(kernel) is None
    arguments = operands(m, n, k, accumulator=accumulator, **options)
    found = run(kernel, **arguments)["C"]
    if wanted is not None:
        np.testing.assert_array_equal(found, wanted(arguments))


def test_another_statement_in_the_loop() -> None:
    def double(ko: Any, a: Any, b: Any, c: Any) -> None:
        for_each(c)

    @T.macro
    def for_each(c: T.Tensor) -> None:
        for i, j in T.Parallel(16, 16):
            c[i, j] = c[i, j] * 2

    def horner(arguments: dict[str, Any]) -> Any:
        total = np.zeros((16, 16))
        for k in range(0, 64, 8):
            total = total * 2 + arguments["A"][:, k : k + 8] @ arguments["B"][k : k + 8]
        return total

    refuses(product(16, 16, 64, step=double), wanted=horner)


def test_steps_that_are_long_already() -> None:
    assert merged(product(16, 16, 512, bk=DEPTH)) is None
    assert merged(product(16, 16, 512, bk=DEPTH // 2 + 1)) is None
    assert merged(product(16, 16, 8, bk=8)) is None


def test_a_narrow_accumulator() -> None:
    refuses(product(16, 16, 64, operand="float16", accumulator="float16"), operand="float16", accumulator="float16", wanted=exact)


def staged(start_a: Any, start_b: Any, clear: Any = False, tile: Any = None, read_after: bool = False, read_before: bool = False) -> PrimFunc:
    """A product loop whose sources begin where `start_a` and `start_b` say."""

    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.fill(c, 1)
            if read_before:
                T.clear(a)
            for k in T.serial(8):
                T.copy(A[start_a(k)], a)
                T.copy(B[start_b(k)], b)
                T.gemm(a, b, c, clear_accum=clear)
            if read_after:
                T.copy(a, c[0:16, 0:8])
            T.copy(c, C)

    return kernel


PLAIN_A, PLAIN_B = (lambda k: (0, k * 8)), (lambda k: (k * 8, 0))


def stepwise(start_a: Any, start_b: Any) -> Any:
    def wanted(arguments: dict[str, Any]) -> Any:
        padded_a, padded_b = np.zeros((40, 140)), np.zeros((140, 40))
        padded_a[:16, :64], padded_b[:64, :16] = arguments["A"], arguments["B"]
        total = np.ones((16, 16))
        for k in range(8):
            (i, j), (m, n) = start_a(k), start_b(k)
            total += padded_a[i : i + 16, j : j + 8] @ padded_b[m : m + 8, n : n + 16]
        return total

    return wanted


def test_the_plain_case_is_merged() -> None:
    assert merged(staged(PLAIN_A, PLAIN_B)) is not None
    assert merged(staged(lambda k: (0, 8 + k * 8), PLAIN_B)) is not None


@pytest.mark.parametrize(
    "start",
    [
        lambda k: (0, k * 4),
        lambda k: (0, k * 16),
        lambda k: (0, 8),
        lambda k: (k, k * 8),
        lambda k: (0, (7 - k) * 8),
        lambda k: (0, k * k),
        lambda k: (0, k * 8 % 16),
    ],
)
def test_starts_that_do_not_advance_by_the_step(start: Any) -> None:
    refuses(staged(start, PLAIN_B), wanted=stepwise(start, PLAIN_B))


def test_a_start_read_from_memory() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), I: T.Tensor((8,), "int32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(8):
                T.copy(A[0, I[k] * 8], a)
                T.copy(B[I[k] * 8, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)

    assert merged(kernel) is None
    arguments = {**operands(16, 16, 64), "I": np.array([3, 0, 7, 1, 2, 6, 5, 4], np.int32)}
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], exact(arguments))


def test_clearing_the_accumulator() -> None:
    assert merged(staged(PLAIN_A, PLAIN_B, clear=True)) is None
    arguments = operands(16, 16, 64)
    np.testing.assert_array_equal(run(staged(PLAIN_A, PLAIN_B, clear=True), **arguments)["C"], arguments["A"][:, 56:] @ arguments["B"][56:])


def test_a_tile_used_elsewhere() -> None:
    for options in ({"read_after": True}, {"read_before": True}):
        assert merged(staged(PLAIN_A, PLAIN_B, **options)) is None
    arguments = operands(16, 16, 64)
    wanted = exact(arguments) + 1
    wanted[:, :8] = arguments["A"][:, 56:]
    np.testing.assert_array_equal(run(staged(PLAIN_A, PLAIN_B, read_after=True), **arguments)["C"], wanted)


def test_a_view_of_a_tile() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            flat = T.reshape(a, (128,))
            T.clear(c)
            for k in T.serial(8):
                T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)
            C[0, 0] = flat[17]

    refuses(kernel)


def test_a_product_of_a_view() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            flat, b, c = T.alloc_shared((128,), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            a = T.reshape(flat, (16, 8))
            T.clear(c)
            for k in T.serial(8):
                T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)

    refuses(kernel, wanted=exact)


def test_a_tile_staged_twice_in_one_turn() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(4):
                T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
                T.gemm(a, b, c)
                T.copy(A[0, 32 + k * 8], a)
                T.copy(B[32 + k * 8, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)

    refuses(kernel, wanted=exact)


def test_a_product_before_its_copy() -> None:
    """The product of a turn reads what the turn before has staged."""

    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(a)
            T.clear(b)
            T.clear(c)
            for k in T.serial(8):
                T.gemm(a, b, c)
                T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
            T.copy(c, C)

    refuses(kernel, wanted=lambda arguments: arguments["A"][:, :56] @ arguments["B"][:56])


def test_a_product_before_its_copy_without_a_clear() -> None:
    """As above, but with nothing outside the loop that touches the tiles: the first turn's product counts for nothing."""

    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(8):
                T.gemm(a, b, c, clear_accum=False)
                T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
            T.copy(c, C)

    assert merged(kernel) is None


def test_a_copy_inside_a_branch() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 64), "float32"), B: T.Tensor((64, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(8):
                if k % 2 == 0:
                    T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)

    def wanted(arguments: dict[str, Any]) -> Any:
        return sum(arguments["A"][:, k // 2 * 16 : k // 2 * 16 + 8] @ arguments["B"][k * 8 : k * 8 + 8] for k in range(8))

    refuses(kernel, wanted=wanted)


def test_safe_values_beyond_the_depth() -> None:
    """The last step of the program as written pads both operands; after merging it pads no more than that."""

    @T.prim_func
    def kernel(A: T.Tensor((16, 60), "float32"), B: T.Tensor((60, 16), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            T.annotate_safe_value({A: 2, B: 3})
            a, b, c = T.alloc_shared((16, 8), "float32"), T.alloc_shared((8, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.clear(c)
            for k in T.serial(8):
                T.copy(A[0, k * 8], a)
                T.copy(B[k * 8, 0], b)
                T.gemm(a, b, c)
            T.copy(c, C)

    arguments = operands(16, 16, 60)
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], exact(arguments) + 4 * 6)
