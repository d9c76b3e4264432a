"""Vector dtypes become scalars: values, buffers, copies, fills, views, names, and what stays refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import integers, refused, run
from tilewright.errors import Kind
from tilewright.ir.visit import own_expressions, statements, subexpressions
from tilewright.passes import PassContext
from tilewright.passes.split_lanes import split_lanes
from tilewright.target.cpu import host_target


@T.prim_func
def moves(A: T.Tensor((T.dynamic("n"), 6), "float32x4"), B: T.Tensor((5, 6), "float32x4"), scale: T.float32):
    with T.Kernel(2) as bx:
        tile = T.alloc_shared((3, 6), "float32x4")
        half = T.alloc_fragment((3, 6), "float16x4")
        T.copy(A[bx * 3, 0], tile)
        T.copy(tile, half)
        for i, j in T.Parallel(3, 6):
            value = half[i, j] * scale
            tile[i, j] = value.astype("float32x4") + T.float32x4(0, 1, 2, 3)
        T.fill(tile[1, 0:2], T.float32x4(5, 6, 7, 8))
        T.copy(tile, B[bx * 3, 0])


def test_copies_names_conversions_and_clipping() -> None:
    a = integers((4, 6, 4))
    found = run(moves, A=a, B=np.zeros((5, 6, 4), np.float32), scale=2.0)["B"]
    want = np.pad(a, ((0, 2), (0, 0), (0, 0))) * 2 + np.arange(4)
    want[[1, 4], :2] = [5, 6, 7, 8]
    np.testing.assert_array_equal(found, want[:5])


def test_nothing_of_several_lanes_is_left() -> None:
    program = split_lanes(moves.program, PassContext(host_target()))
    for launch in program.launches:
        assert all(b.dtype.lanes == 1 for b in launch.buffers)
        for stmt in statements(launch.body):
            for root in own_expressions(stmt):
                assert all(node.dtype.lanes == 1 for node in subexpressions(root))


def test_a_program_without_vectors_stays_the_same_object() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "float32")):
        with T.Kernel(1):
            T.clear(A)

    assert split_lanes(main.program, PassContext(host_target())) is main.program


def test_views_join_and_split_lanes() -> None:
    @T.prim_func
    def main(A: T.Tensor((4, 8), "float32"), B: T.Tensor((4, 2), "float32x4")):
        with T.Kernel(1):
            tile = T.alloc_shared((4, 8), "float32")
            T.copy(A, tile)
            vectors = T.view(tile, (4, 2), "float32x4")
            for i, j in T.Parallel(4, 2):
                vectors[i, j] = vectors[i, j] + 1.0
            T.copy(vectors, B)

    a = integers((4, 8))
    np.testing.assert_array_equal(run(main, A=a, B=np.zeros((4, 2, 4), np.float32))["B"], a.reshape(4, 2, 4) + 1)


@pytest.mark.parametrize(
    ("source", "target", "element", "result"),
    [
        ("uint32", "uint8x4", np.uint32, np.uint8),
        ("uint8x4", "uint32", np.uint8, np.uint32),
        ("float16x2", "uint32", np.float16, np.uint32),
        ("float32", "float16x2", np.float32, np.float16),
        ("float64x2", "uint32x4", np.float64, np.uint32),
        ("uint32x4", "float64x2", np.uint32, np.float64),
        ("int16x2", "uint16x2", np.int16, np.uint16),
    ],
)
def test_bits_are_read_anew(source: str, target: str, element: Any, result: Any) -> None:
    @T.prim_func
    def main(A: T.Tensor((16,), source), B: T.Tensor((16,), target)):
        with T.Kernel(1):
            for i in T.Parallel(16):
                B[i] = T.reinterpret(A[i], target)

    lanes = [int(d.rpartition("x")[2]) if "x" in d else 1 for d in (source, target)]
    a = integers((16, lanes[0]), element, 0, 100) if lanes[0] > 1 else integers(16, element, 0, 100)
    b = np.zeros((16, lanes[1]) if lanes[1] > 1 else 16, result)
    np.testing.assert_array_equal(run(main, A=a, B=b)["B"].reshape(16, -1), a.reshape(16, -1).view(result))


def test_strided_tensors_of_vectors() -> None:
    @T.prim_func
    def main(A: T.StridedTensor((4, 3), (T.dynamic("s"), 1), "int16x2"), B: T.Tensor((4, 3), "int16x2")):
        with T.Kernel(1):
            T.copy(A, B)

    a = np.arange(40, dtype=np.int16).reshape(4, 5, 2)[:, :3]
    np.testing.assert_array_equal(run(main, A=a, B=np.zeros((4, 3, 2), np.int16))["B"], a)


def test_packed_elements_of_several_lanes() -> None:
    @T.prim_func
    def main(A: T.Tensor((4,), "uint4x8"), B: T.Tensor((4,), "uint8x8")):
        with T.Kernel(1):
            for i in T.Parallel(4):
                B[i] = A[i].astype("uint8x8")

    a = integers((4, 4), np.uint8, 0, 256)
    found = run(main, A=a, B=np.zeros((4, 8), np.uint8))["B"]
    np.testing.assert_array_equal(found, np.stack([a & 15, a >> 4], -1).reshape(4, 8))


def test_other_operations_are_refused() -> None:
    @T.prim_func
    def main(A: T.Tensor((8, 8), "float32x4"), B: T.Tensor((8,), "float32x4")):
        with T.Kernel(1):
            tile, total = T.alloc_fragment((8, 8), "float32x4"), T.alloc_fragment((8,), "float32x4")
            T.copy(A, tile)
            T.reduce_sum(tile, total, dim=1)

    with refused(Kind.DTYPE_UNSUPPORTED, "float32x4", 'T.view(tile, (8, 8, 4), "float32")'):
        tilewright.compile(main)


def test_copies_between_numbers_of_lanes_are_refused() -> None:
    with refused(Kind.CAST_DTYPE, "float32x4", "float32"):

        @T.prim_func
        def main(A: T.Tensor((8,), "float32x4"), B: T.Tensor((8,), "float32")):
            with T.Kernel(1):
                T.copy(A, B)
