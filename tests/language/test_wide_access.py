"""Accesses of 32 to 256 bits: the bits that numpy sees in the same memory, in every scope, with and without a predicate."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused, run
from tilewright.errors import Kind

LOADS = {32: "ldg32", 64: "ldg64", 128: "ldg128", 256: "ldg256"}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8", "float64", "int32"])
@pytest.mark.parametrize("bits", [32, 64, 128, 256])
def test_bits_move_unchanged(dtype: str, bits: int) -> None:
    element = T.dtype(dtype)
    if element.bits > bits:
        pytest.skip("an element does not fit")
    load, store, step, words = getattr(T, LOADS[bits]), getattr(T, f"stg{bits}"), bits // element.bits, bits // 32
    word = T.dtype("uint32" if words == 1 else f"uint32x{words}")

    @T.prim_func
    def main(A: T.Tensor((3, 4 * step), dtype), W: T.Tensor((3, 4), word), B: T.Tensor((3, 4 * step), dtype)):
        with T.Kernel(3) as row:
            for i in T.serial(4):
                W[row, i] = load(A[row, i * step])
                store(B[row, (3 - i) * step], load(A[row, i * step]))

    raw = np.random.default_rng(1).integers(0, 64, (3, 4 * bits // 8), np.uint8)
    source = raw.view(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    found = run(main, A=source, W=np.zeros((3, 4, words) if words > 1 else (3, 4), np.uint32), B=np.zeros_like(source))
    np.testing.assert_array_equal(found["W"].view(np.uint8).reshape(raw.shape), raw)
    np.testing.assert_array_equal(found["B"].view(np.uint8).reshape(3, 4, -1)[:, ::-1], raw.reshape(3, 4, -1))


def through_shared(threads: int) -> Any:
    @T.prim_func
    def main(A: T.Tensor((threads * 4,), "float32"), B: T.Tensor((threads * 4,), "float32")):
        with T.Kernel(1, threads=threads):
            tx = T.get_thread_binding()
            s = T.alloc_shared((threads * 4,), "float32")
            T.sts128(s[tx * 4], T.ldg128(A[tx * 4]))
            T.sync_threads()
            other = threads - 1 - tx
            T.stg64(B[tx * 4], T.lds64(s[other * 4 + 2]))
            T.stg32(B[tx * 4 + 2], T.lds32(s[other * 4]))
            T.stg32(B[tx * 4 + 3], 0x40000000)

    return main


def expected_through_shared(a: np.ndarray) -> np.ndarray:
    rows = a.reshape(-1, 4)[::-1]
    return np.stack([rows[:, 2], rows[:, 3], rows[:, 0], np.full(len(rows), 2.0, np.float32)], 1).reshape(-1)


def test_shared_memory() -> None:
    a = np.arange(128, dtype=np.float32)
    found = run(through_shared(32), A=a, B=np.zeros_like(a))
    np.testing.assert_array_equal(found["B"], expected_through_shared(a))


def test_on_the_simulated_gpu() -> None:
    a = np.arange(256, dtype=np.float32)
    report = tilewright.compile(through_shared(64), target="simulate").simulate(a, np.zeros_like(a))
    assert not report.findings
    np.testing.assert_array_equal(report.outputs["B"], expected_through_shared(a))


def test_what_a_predicate_leaves_out() -> None:
    @T.prim_func
    def main(A: T.Tensor((16,), "float32"), B: T.Tensor((16,), "float32")):
        with T.Kernel(1):
            for i in T.serial(4):
                T.stg128(B[i * 4], T.ldg128(A[i * 4], pred=i % 2 == 0), pred=i < 3)

    a, b = np.arange(1, 17, dtype=np.float32), np.full(16, -1, np.float32)
    expected = np.where(np.arange(16) // 4 % 2 == 0, a, 0)
    expected[12:] = -1
    np.testing.assert_array_equal(run(main, A=a, B=b)["B"], expected)


def test_beyond_the_end_are_zeros_and_nothing_is_written() -> None:
    @T.prim_func
    def main(A: T.Tensor((6,), "float32"), B: T.Tensor((6,), "float32"), C: T.Tensor((4,), "float32")):
        with T.Kernel(1):
            T.stg128(C[0], T.ldg128(A[4]))
            T.stg128(B[4], T.ldg128(A[0]))

    a = np.arange(1, 7, dtype=np.float32)
    found = run(main, A=a, B=np.zeros(6, np.float32), C=np.full(4, -1, np.float32))
    np.testing.assert_array_equal(found["C"], [5, 6, 0, 0])
    np.testing.assert_array_equal(found["B"], [0, 0, 0, 0, 1, 2])


def test_a_load_through_the_read_only_cache_is_a_load() -> None:
    load = vars(T)["__ldg"]  # two underscores: inside a class Python would change the name

    @T.prim_func
    def main(A: T.Tensor((8,), "float16"), B: T.Tensor((8,), "float16")):
        with T.Kernel(1):
            for i in T.Parallel(8):
                B[i] = T.__ldg(A[7 - i])

    a = np.arange(8, dtype=np.float16)
    np.testing.assert_array_equal(run(main, A=a, B=np.zeros_like(a))["B"], a[::-1])
    assert load is T.__ldg


@pytest.mark.parametrize(
    ("kind", "statement", "part"),
    [
        (Kind.OPERAND_KIND, lambda A, s: T.ldg32(s[0]), "T.ldg32 was given an address in s, which is shared"),
        (Kind.OPERAND_KIND, lambda A, s: T.sts64(A[0], T.ldg64(A[0])), "T.sts64 was given an address in A, which is global"),
        (Kind.OPERAND, lambda A, s: T.ldg256(A[0]), "whose last dimension has 4 elements of float32"),
        (Kind.OPERAND, lambda A, s: T.stg64(A[0], T.ldg32(A[0])), "which has 32 bits"),
        (Kind.UNKNOWN_ARGUMENT, lambda A, s: T.lds32(s[0], True), "T.lds32 has no argument `pred`"),
        (Kind.OPERAND_KIND, lambda A, s: T.ldg32(T.float32(1.0)), "has no address"),
    ],
)
def test_mistakes(kind: Kind, statement: Any, part: str) -> None:
    with refused(kind, part):

        @T.prim_func
        def main(A: T.Tensor((4,), "float32")):
            with T.Kernel(1):
                s = T.alloc_shared((4,), "float32")
                statement(A, s)


def test_wider_elements_than_the_access_are_refused() -> None:
    with refused(Kind.OPERAND, "A, which holds float64"):

        @T.prim_func
        def main(A: T.Tensor((4,), "float64"), B: T.Tensor((4,), "uint32")):
            with T.Kernel(1):
                B[0] = T.ldg32(A[0])
