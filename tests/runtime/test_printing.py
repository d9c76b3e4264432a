"""T.print: what a running kernel writes, for values and for buffers of every storage."""

from __future__ import annotations

import ctypes

import ml_dtypes
import numpy as np

import tilewright as tl
import tilewright.language as T
from tilewright import dtypes
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import const, var
from tilewright.ir.stmt import Print
from tilewright.ir.tileop import Storage, TilePlan
from tilewright.runtime.printing import PrintTable

SPAN = Span("kernel.py", 1)


def call(table: PrintTable, number: int, words: list[int]) -> None:
    slots = (ctypes.c_uint64 * len(words))(*words)
    ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.c_void_p)(table.address)(number, ctypes.addressof(slots))


def test_values_are_shown_in_their_dtype() -> None:
    lines: list[str] = []
    values = (const(1), var("x", dtypes.float32), var("d", dtypes.float64), var("b", dtypes.bool_), var("u", dtypes.uint32))
    table = PrintTable([Print(SPAN, "at", values)], {}, lines.append)
    x, d = np.float32(2.5).view(np.uint32), np.float64(-0.125).view(np.uint64)
    call(table, 1, [2**64 - 7, int(x), int(d), 1, 4_000_000_000, 0])
    assert lines == ["at -7 2.5 -0.125 True 4000000000"]


def test_a_message_alone() -> None:
    lines: list[str] = []
    call(PrintTable([Print(SPAN, "other", ()), Print(SPAN, "hello", ())], {}, lines.append), 2, [0])
    assert lines == ["hello"]


def test_a_tile_kept_wider_and_with_a_pitch_is_shown_as_declared() -> None:
    lines: list[str] = []
    tile = Buffer("tile", dtypes.float16, (2, 3), Scope.SHARED, SPAN)
    memory = np.arange(8, dtype=np.float32)
    table = PrintTable([Print(SPAN, "tile", (), tile)], {tile: TilePlan(dtypes.float32, Storage.ROW_MAJOR, 5)}, lines.append)
    call(table, 1, [memory.ctypes.data])
    assert lines == [f"tile:\n{np.array([[0, 1, 2], [5, 6, 7]], np.float16)}"]


def test_symbolic_dimensions_come_with_the_call() -> None:
    lines: list[str] = []
    n = var("n")
    tensor = Buffer("A", dtypes.bfloat16, (n,), Scope.GLOBAL, SPAN)
    memory = np.arange(6).astype(ml_dtypes.bfloat16)
    call(PrintTable([Print(SPAN, "A", (n,), tensor)], {}, lines.append), 1, [4, memory.view(np.uint16).ctypes.data])
    assert lines == ["A: [0 1 2 3]"]


def test_a_kernel_prints(capfd) -> None:  # type: ignore[no-untyped-def]
    @T.prim_func
    def main(A: T.Tensor((4,), "float32")):
        with T.Kernel(1):
            tile = T.alloc_shared((4,), "float16")
            T.copy(A, tile)
            T.print(tile)
            T.print(A[1] * 2, "twice")

    tl.compile(main, target="cpu")(np.arange(4, dtype=np.float32))
    assert capfd.readouterr().out.splitlines() == ["tile: [0. 1. 2. 3.]", "twice 2.0"]
