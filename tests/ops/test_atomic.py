"""Atomics on elements and tiles; against plain numpy and the reference. Threads share the tensors, so lost updates would show."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int32", "int64", "uint8", "int16"])
def test_many_blocks_add_to_few_elements(dtype: str) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((24, 13), "int8"), B: T.Tensor((3,), dtype), C: T.Tensor((13,), dtype)):
        with T.Kernel(24) as bx:
            for j in T.Parallel(13):
                T.atomic_add(B[(bx + j) % 3], A[bx, j])
                T.atomic_add(C[j], A[bx, j], memory_order="relaxed")

    a = integers((24, 13), np.int8, low=0, high=3)
    numpy_type = T.dtype(dtype).numpy
    found = run(kernel, A=a, B=np.zeros(3, numpy_type), C=np.full(13, 1, numpy_type))
    x, j = np.indices(a.shape)
    wide = a.astype(np.int64)
    np.testing.assert_array_equal(found["B"].astype(np.int64), [wide[(x + j) % 3 == k].sum() for k in range(3)])
    np.testing.assert_array_equal(found["C"].astype(np.int64), wide.sum(0) + 1)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "uint16", "int8"])
def test_maximum_minimum_and_bits(dtype: str) -> None:
    is_float = dtype.startswith("float")

    def bits(B: Any, bx: Any, value: Any) -> None:
        if not is_float:
            T.atomic_or(B[2], value)

    @T.prim_func
    def kernel(A: T.Tensor((17,), dtype), B: T.Tensor((3,), dtype)):
        with T.Kernel(17) as bx:
            T.atomic_max(B[0], A[bx])
            T.atomic_min(B[1], A[bx])
            bits(B, bx, A[bx])

    a = integers((17,), T.dtype(dtype).numpy, low=0 if dtype.startswith("u") else -30, high=60)
    b = np.array([1, 2, 0], a.dtype)
    wanted = [max(a.max(), 1), min(a.min(), 2), 0 if is_float else np.bitwise_or.reduce(a)]
    np.testing.assert_array_equal(run(kernel, A=a, B=b)["B"], np.array(wanted, a.dtype))


@pytest.mark.parametrize("place", ["alone", "serial", "branch", "shared", "pair"])
def test_outside_parallel_loops_every_thread_adds(place: str) -> None:
    """The reference, the CPU and the simulated GPU agree: only what gives the same when it is done again is done once."""

    @T.prim_func
    def kernel(A: T.Tensor((4,), "int32"), B: T.Tensor((4,), "int32")):
        with T.Kernel(2, threads=(16, 3)) as bx:
            if place == "alone":
                T.atomic_add(B[bx], 1)
            elif place == "serial":
                for i in T.serial(4):
                    T.atomic_add(B[i], A[i])
            elif place == "branch":
                if A[2] > bx:
                    T.atomic_add(B[2], 5)
            elif place == "shared":
                held = T.alloc_shared((4,), "int32")
                T.clear(held)
                T.atomic_add(held[1], 1)
                T.atomic_max(held[2], 7)
                T.atomic_add(B[0:4], held)
            else:
                T.atomic_addx2(B[2], A[1])

    a = np.arange(4, dtype=np.int32)
    expected = {"alone": [48, 48, 0, 0], "serial": 96 * a, "branch": [0, 0, 96 * 5, 0], "shared": [0, 96, 14, 0], "pair": [0, 0, 96, 192]}[place]
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros(4, np.int32))["B"], expected)
    report = tilewright.compile(kernel, target="simulate").simulate(a, np.zeros(4, np.int32))
    assert not report.findings
    np.testing.assert_array_equal(report.outputs["B"], expected)


def test_the_previous_value_gives_tickets() -> None:
    """Every block takes a number of its own: the places are a permutation, whatever the order."""

    @T.prim_func
    def kernel(counter: T.Tensor((1,), "int32"), B: T.Tensor((40,), "int32")):
        with T.Kernel(40, threads=1) as bx:
            ticket = T.atomic_add(counter[0], 1, return_prev=True)
            B[ticket] = bx

    counter, b = np.zeros(1, np.int32), np.full(40, -1, np.int32)
    tilewright.compile(kernel)(counter, b)
    assert counter[0] == 40
    np.testing.assert_array_equal(np.sort(b), np.arange(40))


def test_previous_values_of_one_block() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((6,), "int32"), B: T.Tensor((8, 6), "int32")):
        with T.Kernel(1, threads=1):
            for i in T.Parallel(6):
                B[0, i] = T.atomic_add(A[i], 5, return_prev=True)
                B[1, i] = T.atomic_max(A[i], 7, return_prev=True)
                B[2, i] = T.atomic_min(A[i], 6, return_prev=True)
                B[3, i] = T.atomic_or(A[i], 8, return_prev=True)
                T.atomic_store(A[i], i)
                B[4, i] = T.atomic_load(A[i])
                B[5, i] = T.atomic_add(A[i + 6], 1, return_prev=True)  # outside: the safe value

    a = np.array([-9, 0, 1, 2, 3, 90], np.int32)
    steps = [a, a + 5, np.maximum(a + 5, 7), np.minimum(np.maximum(a + 5, 7), 6)]
    found = run(kernel, A=a, B=np.zeros((8, 6), np.int32))
    np.testing.assert_array_equal(found["B"][:4], steps)
    np.testing.assert_array_equal(found["B"][4], np.arange(6))
    np.testing.assert_array_equal(found["B"][5], 0)


def test_tiles_are_added_and_clipped() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((6, 4, 5), "float32"), B: T.Tensor((7, 8), "float16"), C: T.Tensor((7, 8), "int32")):
        with T.Kernel(6) as bx:
            held = T.alloc_fragment((4, 5), "float32")
            T.copy(A[bx, :, :], held)
            T.atomic_add(B[bx % 3 * 2, bx // 3 * 5], held)
            T.atomic_add(C[bx : bx + 2, 6:9], bx)
            T.atomic_max(C[0:2, 0:4], held[1:3, 0:4])

    a = integers((6, 4, 5))
    b, c = np.zeros((10, 13)), np.zeros((9, 9), np.int64)
    for x in range(6):
        b[x % 3 * 2 :, x // 3 * 5 :][:4, :5] += a[x]
        c[x : x + 2, 6:9] += x
        c[:2, :4] = np.maximum(c[:2, :4], a[x, 1:3, :4])
    found = run(kernel, A=a, B=np.zeros((7, 8), np.float16), C=np.zeros((7, 8), np.int32))
    np.testing.assert_array_equal(found["B"], b[:7, :8])
    np.testing.assert_array_equal(found["C"], c[:7, :8])


def test_shared_tiles() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((60,), "int32"), B: T.Tensor((2, 9), "int32")):
        with T.Kernel(2) as bx:
            histogram = T.alloc_shared((9,), "int32")
            part = T.alloc_fragment((4,), "int32")
            T.clear(histogram)
            for i in T.Parallel(60):
                T.atomic_add(histogram[A[i] + 2], 1)
            T.fill(part, 100)
            T.atomic_add(histogram[bx * 7 : bx * 7 + 4], part)  # runs over the end of the tile
            T.copy(histogram, B[bx, :])

    a = integers((60,), np.int32, low=-2, high=7)
    counts = np.bincount(a + 2, minlength=9)
    wanted = np.stack([counts, counts])
    wanted[0, :4] += 100
    wanted[1, 7:] += 100
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((2, 9), np.int32))["B"], wanted)


def test_neighbouring_elements() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((4, 8), "float32"), B: T.Tensor((4, 8), "float32")):
        with T.Kernel(4, threads=1) as bx:
            for j in T.Parallel(2):
                T.atomic_addx4(B[bx, j * 4], A[bx, j * 4])
            T.atomic_addx2(B[bx, 2:4], A[bx, 0:2])
            T.atomic_addx2(B[bx, 7], A[bx, 0])  # the second one is outside

    a = integers((4, 8))
    wanted = a.copy()
    wanted[:, 2:4] += a[:, :2]
    wanted[:, 7] += a[:, 0]
    np.testing.assert_array_equal(run(kernel, A=a, B=np.zeros((4, 8), np.float32))["B"], wanted)


def test_rounding_of_narrow_floats_happens_at_every_step() -> None:
    @T.prim_func
    def kernel(B: T.Tensor((1,), "bfloat16")):
        with T.Kernel(1, threads=1):
            for _ in T.serial(300):
                T.atomic_add(B[0], 1)

    assert run(kernel, B=np.zeros(1, ml_dtypes.bfloat16))["B"][0] == 256


def refuse(kind: Kind, statement: Any) -> None:
    with refused(kind):

        @T.prim_func
        def kernel(A: T.Tensor((8,), "float32"), I: T.Tensor((8,), "int32"), P: T.Tensor((8,), "bool")):
            with T.Kernel(1, threads=1):
                statement(A, I, P, T.alloc_fragment((8,), "float32"))


def test_what_is_refused() -> None:
    refuse(Kind.ATOMIC_TARGET, lambda A, I, P, f: T.atomic_add(f[0], 1))
    refuse(Kind.ATOMIC_TARGET, lambda A, I, P, f: T.atomic_add(A, f, return_prev=True))
    refuse(Kind.ATOMIC_TARGET, lambda A, I, P, f: T.atomic_addx2(A[0], A[2], return_prev=True))
    refuse(Kind.ATOMIC_DTYPE, lambda A, I, P, f: T.atomic_or(A[0], 1))
    refuse(Kind.ATOMIC_DTYPE, lambda A, I, P, f: T.atomic_add(P[0], 1))
    refuse(Kind.MEMORY_ORDER, lambda A, I, P, f: T.atomic_add(A[0], 1, memory_order="strong"))
    refuse(Kind.ATOMIC_TARGET, lambda A, I, P, f: T.atomic_load(A[0:2]))
    refuse(Kind.OPERAND_KIND, lambda A, I, P, f: T.atomic_add(3, 1))
