"""Tensors of the language: annotations, symbols, outputs, tensors over addresses, and views of the same memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind
from tilewright.ir.buffer import Buffer
from tilewright.ir.expr import Expr
from tilewright.language.tensor import TensorSpec


@pytest.mark.parametrize(
    ("made", "shape", "dtype"),
    [
        (T.Tensor((3, 4), "float16"), (3, 4), "float16"),
        (T.Tensor(8), (8,), "float32"),
        (T.Tensor([2, 2], T.int8), (2, 2), "int8"),
        (T.Tensor[(3, 4), "float16"], (3, 4), "float16"),
        (T.Tensor[[3, 4], T.bfloat16], (3, 4), "bfloat16"),
        (T.Tensor[(5,)], (5,), "float32"),
        (T.Tensor((4,), T.ptr), (4,), "int64"),
        (T.Tensor((4,), np.float64), (4,), "float64"),
    ],
)
def test_spellings_of_an_annotation(made: TensorSpec, shape: tuple[int, ...], dtype: str) -> None:
    assert (made.shape, made.dtype, made.strides) == (shape, dtype, None)


def test_strides_are_given_per_dimension() -> None:
    made = T.StridedTensor[(3, 4), (9, 2), "int8"]
    assert (made.shape, made.strides, made.dtype) == ((3, 4), (9, 2), "int8") and made.strides == T.StridedTensor((3, 4), (9, 2)).strides
    with refused(Kind.SHAPE_VALUE, "2 dimensions but 1 strides"):
        T.StridedTensor((3, 4), (1,))


def test_symbols() -> None:
    n, m = T.dynamic("n, m", "int64")
    assert isinstance(n, Expr) and isinstance(n, T.Var) and (n.name, m.name, n.dtype) == ("n", "m", "int64")
    assert T.dynamic("n") is not T.dynamic("n") and len(T.dynamic("a b c")) == 3
    assert (T.dyn["K"].name, T.dyn["K", "int64"].dtype) == ("K", "int64")
    for call, part in ((lambda: T.dynamic("2n"), "as a name"), (lambda: T.dynamic("n", "float32"), "is float32"), (lambda: T.dyn["a", "int32", 3], "3 parts")):
        with refused(Kind.SHAPE_VALUE, part):
            call()


@pytest.mark.parametrize("spelling", [lambda n: T.empty((n, 3), "int32"), lambda n: T.empty(n, 3, dtype="int32"), lambda n: T.empty(n, 3, "int32")])
def test_an_output_is_allocated_by_the_call(spelling: Any) -> None:
    n = T.dynamic("n")

    @T.prim_func
    def main(A: T.Tensor((n,), "int32")):
        B = spelling(n)
        with T.Kernel(n) as bx:
            for j in T.Parallel(3):
                B[bx, j] = A[bx] * j
        return B

    a = np.arange(5, dtype=np.int32)
    np.testing.assert_array_equal(tilewright.compile(main)(a), a[:, None] * np.arange(3))


def test_an_output_is_float32_where_nothing_else_is_said() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "float32")):
        B = T.empty(4)
        with T.Kernel(1):
            T.copy(A, B)
        return B

    assert main.params[1].is_output and str(main.params[1].buffer.dtype) == "float32"


def test_tensors_over_addresses() -> None:
    @T.prim_func
    def main(P: T.ptr, table: T.Tensor((2,), T.ptr), n: T.int32, B: T.Tensor((3, 4), "float32")):
        with T.Kernel(1):
            whole = T.make_tensor(P, (3, 4), "float32")
            every_second = T.make_tensor_from_addr(table[1], (n,), "int32", strides=(2,))
            again = T.Tensor.from_ptr(P, (12,), "float32")
            for i, j in T.Parallel(3, 4):
                B[i, j] = whole[i, j] + again[11 - i * 4 - j] + every_second[i]

    a, words = integers((3, 4)), np.arange(10, dtype=np.int32)
    b = np.zeros((3, 4), np.float32)
    tilewright.compile(main)(a, np.array([0, words.ctypes.data], np.int64), 5, b)
    np.testing.assert_array_equal(b, a + a.reshape(-1)[::-1].reshape(3, 4) + np.array([[0], [2], [4]]))


def test_views_share_their_memory() -> None:
    @T.prim_func
    def main(A: T.Tensor((4, 8), "float32"), B: T.Tensor((32,), "uint32"), C: T.Tensor((64,), "float16")):
        with T.Kernel(1):
            tile = T.alloc_shared((4, 8), "float32")
            flat = T.reshape(tile, (32,))
            words = T.view(tile, (32,), "uint32")
            halves = T.view(tile, dtype="float16")
            T.copy(A, tile)
            flat[5] = 1.0
            for i in T.Parallel(32):
                B[i] = words[i]
            for i, j in T.Parallel(4, 16):
                C[i * 16 + j] = halves[i, j]

    a = integers((4, 8))
    found = run(main, A=a, B=np.zeros(32, np.uint32), C=np.zeros(64, np.float16))
    expected = a.copy().reshape(-1)
    expected[5] = 1
    np.testing.assert_array_equal(found["B"], expected.view(np.uint32))
    np.testing.assert_array_equal(found["C"].view(np.uint16), expected.view(np.uint16))


def test_a_tensor_under_another_shape() -> None:
    n = T.dynamic("n")

    @T.prim_func
    def main(A: T.Tensor((n, 6), "float32"), B: T.Tensor((n * 6,), "float32")):
        with T.Kernel(n) as bx:
            flat = T.Tensor((n * 6,), "float32", A.data)
            for j in T.Parallel(6):
                B[bx * 6 + j] = flat[bx * 6 + j]

    a = integers((3, 6))
    np.testing.assert_array_equal(run(main, A=a, B=np.zeros(18, np.float32))["B"], a.reshape(-1))


@pytest.mark.parametrize(
    ("kind", "make", "part"),
    [
        (Kind.SHAPE_VALUE, lambda A, s: T.empty((-1,)), "holds -1"),
        (Kind.SHAPE_VALUE, lambda A, s: T.empty(), "T.empty was given no shape"),
        (Kind.SHAPE_VALUE, lambda A, s: T.empty((True,)), "the shape of T.empty holds"),
        (Kind.VIEW_SIZE, lambda A, s: T.reshape(s, (5,)), "has 160 bits, but s (float32[2, 4]) has 256"),
        (Kind.VIEW_SIZE, lambda A, s: T.view(T.reshape(s, (8, 1)), dtype="float64"), "no multiple of 64"),
        (Kind.SHAPE_STATIC, lambda A, s: T.reshape(s, (A.shape[0],)), "which is known only at run time"),
        (Kind.OPERAND_KIND, lambda A, s: T.view(3, dtype="int32"), "is not a buffer"),
        (Kind.OPERAND_KIND, lambda A, s: T.make_tensor(A, (4,)), "is not an address"),
        (Kind.CONST_PLACE, lambda A, s: T.const("M"), "outside an eager function"),
    ],
)
def test_mistakes(kind: Kind, make: Any, part: str) -> None:
    n = T.dynamic("n")
    with refused(kind, part):

        @T.prim_func
        def main(A: T.Tensor((n,), "float32")):
            with T.Kernel(1):
                s = T.alloc_shared((2, 4), "float32")
                made = make(A, s)


def test_what_a_buffer_tells() -> None:
    seen: list[Any] = []

    @T.prim_func
    def main(A: T.Tensor((4, 6), "float16")):
        with T.Kernel(1):
            s = T.alloc_shared((4, 6), "float16")
            seen.extend([A.shape[1], A.dtype, A.strides, A.name, A.scope(), s.scope(), isinstance(A, Buffer)])

    assert seen == [6, "float16", (6, 1), "A", "global", "shared.dyn", True]
