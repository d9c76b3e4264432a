"""Where the elements of shared tiles lie: operands are swizzled or padded, one element to a place, without bank conflicts; other tiles are row-major."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tilewright.dtypes import as_dtype
from tilewright.errors import Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.layout import MemoryLayout
from tilewright.passes.context import GpuPassContext
from tilewright.passes.shared_layout import choose_shared_layouts, operand_layout
from tilewright.target.nvidia import SM_80


def tile(shape: tuple[int, ...], dtype: str = "float16") -> Buffer:
    return Buffer("tile", as_dtype(dtype), shape, Scope.SHARED, Span("program.py", 1))


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("shape", [(64, 64), (128, 32), (16, 16), (24, 40), (3, 16, 64), (2, 2, 8, 24), (8, 6)])
def test_each_element_has_a_place_and_leading_axes_count_whole_tiles(shape: tuple[int, ...], dtype: str) -> None:
    places = operand_layout(tile(shape, dtype)).table()
    assert places.shape == shape and len(np.unique(places)) == places.size
    flat = places.reshape(-1, *shape[-2:])
    for number, part in enumerate(flat):
        np.testing.assert_array_equal(part - part.min(), flat[0] - flat[0].min())
        assert part.min() == number * (flat[1].min() if len(flat) > 1 else 0) and part.min() % (128 if number else 1) == 0


@pytest.mark.parametrize(("rows", "columns", "dtype"), [(64, 64, "float16"), (128, 32, "float16"), (64, 32, "float32"), (64, 128, "int8"), (16, 40, "float16")])
def test_eight_rows_at_one_column_lie_in_different_banks(rows: int, columns: int, dtype: str) -> None:
    itemsize = as_dtype(dtype).itemsize
    places = operand_layout(tile((rows, columns), dtype)).table() * itemsize
    elements = 16 // itemsize
    for column in range(0, columns - elements + 1, elements):
        chunks = places[:8, column] % 128 // 16
        assert len(set(chunks.tolist())) == 8, (column, chunks)
        starts = places[:, column]
        assert (starts % 16 == 0).all() and (places[:, column + elements - 1] - starts == 16 - itemsize).all()  # 16 bytes stay together


def program(annotation: Any = None) -> Any:
    @T.prim_func
    def main(X: T.Tensor((64, 64), "float16"), Y: T.Tensor((64, 64), "float32")):
        with T.Kernel(1, threads=128):
            a, b = T.alloc_shared((64, 64), "float16"), T.alloc_shared((64, 64), "float16")
            other, viewed = T.alloc_shared((64, 64), "float32"), T.alloc_shared((64, 64), "float16")
            c = T.alloc_fragment((64, 64), "float32")
            words = T.view(viewed, dtype="uint16")
            T.copy(X, a)
            T.copy(X, b)
            T.copy(X, viewed)
            T.fill(words[0, :], 0)
            T.clear(c)
            T.gemm(a, b, c)
            T.gemm(a, viewed, c)
            T.copy(c, other)
            T.copy(other, Y)

    return main.program.launches[0]


def test_operands_have_layouts_and_other_tiles_have_none() -> None:
    launch, context = program(), GpuPassContext(SM_80)
    choose_shared_layouts(launch, {}, context)
    assert {b.name for b in context.shared} == {"a", "b"}  # what is viewed has to be row-major


def test_what_the_user_gave_is_kept() -> None:
    launch, context = program(), GpuPassContext(SM_80)
    by_name = {b.name: b for b in launch.buffers}
    given = {by_name["b"]: T.Layout((64, 64), lambda i, j: i * 72 + j), by_name["other"]: T.Layout((64, 64), lambda i, j: (j, i))}
    choose_shared_layouts(launch, given, context)
    found = {b.name: layout for b, layout in context.shared.items()}
    assert set(found) == {"a", "b", "other"} and isinstance(found["b"], MemoryLayout)
    assert found["b"].table()[3, 5] == 3 * 72 + 5 and found["other"].table()[3, 5] == 5 * 64 + 3
