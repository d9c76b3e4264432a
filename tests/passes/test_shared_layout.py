"""Where the elements of shared tiles lie: operands are swizzled or padded, one element to a place, without bank conflicts; other tiles are row-major. Any
map of the user's that the kernel can compute is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import refused
from tests.language.test_foreign import body_of
from tilewright.backends.lowering import lower_to_threads
from tilewright.dtypes import as_dtype
from tilewright.errors import Kind, Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.language.function import PrimFunc
from tilewright.layout import MemoryLayout, TableLayout
from tilewright.passes.context import GpuPassContext
from tilewright.passes.shared_layout import choose_shared_layouts, operand_layout
from tilewright.runtime.nvrtc import is_nvrtc_installed
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
    choose_shared_layouts(launch, {}, context, {})
    assert {b.name for b in context.shared} == {"a", "b"}  # what is viewed has to be row-major


def test_what_the_user_gave_is_kept() -> None:
    launch, context = program(), GpuPassContext(SM_80)
    by_name = {b.name: b for b in launch.buffers}
    given = {by_name["b"]: T.Layout((64, 64), lambda i, j: i * 72 + j), by_name["other"]: T.Layout((64, 64), lambda i, j: (j, i))}
    choose_shared_layouts(launch, given, context, {})
    found = {b.name: layout for b, layout in context.shared.items()}
    assert set(found) == {"a", "b", "other"} and isinstance(found["b"], MemoryLayout)
    assert found["b"].table()[3, 5] == 3 * 72 + 5 and found["other"].table()[3, 5] == 5 * 64 + 3


def through(layout: Any, shape: tuple[int, int] = (6, 6), dtype: str = "float32") -> PrimFunc:
    """A tile filled by rows and read by columns."""

    @T.prim_func
    def kernel(X: T.Tensor(shape, dtype), Y: T.Tensor(shape[::-1], dtype)):
        with T.Kernel(1, threads=32):
            tile = T.alloc_shared(shape, dtype)
            T.annotate_layout({tile: layout})
            T.copy(X, tile)
            for i, j in T.Parallel(shape[1], shape[0]):
                Y[i, j] = tile[j, i]

    return kernel


LAYOUTS = {
    "rotated rows": lambda i, j: i * 6 + (i + j) % 6,
    "with gaps": lambda i, j: (i, (3 * i + j) % 7),
    "by a condition": lambda i, j: T.if_then_else(i < 3, i * 6 + j, i * 6 + 5 - j),
    "exclusive or": lambda i, j: i * 8 + (j ^ (i % 5)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_that_is_no_digit_layout_is_kept(name: str) -> None:
    kernel = through(LAYOUTS[name])
    x, y = np.random.default_rng(0).standard_normal((6, 6)).astype(np.float32), np.zeros((6, 6), np.float32)
    tilewright.compile(kernel, target="simulate")(x, y)
    np.testing.assert_array_equal(y, x.T)
    (layout,) = lower_to_threads(kernel.program, SM_80).context.shared.values()
    assert isinstance(layout, TableLayout)


def test_a_rotation_is_computed_from_the_indices() -> None:
    assert any("% 6" in line and "tile[" in line for line in body_of(through(LAYOUTS["rotated rows"])))


def test_functions_of_digits_need_not_work_on_expressions() -> None:
    places = [[i * 8 + (j ^ i) for j in range(8)] for i in range(8)]
    kernel = through(lambda i, j: places[i][j], (8, 8))
    (layout,) = lower_to_threads(kernel.program, SM_80).context.shared.values()
    assert isinstance(layout, MemoryLayout)


@pytest.mark.parametrize(
    "function",
    [
        lambda i, j: [(7 * n) % 36 for n in range(36)][i * 6 + (i + j) % 6],
        lambda i, j: i * 6 + (i + j) % 6 if i < 9 else 0,
        lambda i, j: int((i * 6 + (i + j) % 6) / 1),
    ],
    ids=["a list", "a branch", "a float"],
)
def test_a_layout_that_the_kernel_cannot_compute_is_refused(function: Any) -> None:
    with refused(Kind.LAYOUT_FORMULA, "elements of tile", "test_shared_layout.py", "operators of integers"):
        tilewright.compile(through(function), target="simulate")


def test_a_product_takes_its_operands_from_any_layout() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "float16"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1, threads=32):
            a, c = T.alloc_shared((16, 16), "float16"), T.alloc_fragment((16, 16), "float32")
            T.annotate_layout({a: lambda i, j: (i, (3 * i + j) % 17)})
            T.copy(A, a)
            T.gemm(a, a, c, transpose_B=True, clear_accum=True)
            T.copy(c, C)

    a, c = np.random.default_rng(0).integers(-3, 4, (16, 16)).astype(np.float16), np.zeros((16, 16), np.float32)
    simulated = tilewright.compile(kernel, target="simulate")
    simulated(a, c)
    np.testing.assert_array_equal(c, a.astype(np.float32) @ a.T.astype(np.float32))
    assert "mma" in simulated.source
    if is_nvrtc_installed():
        assert tilewright.compile(kernel, target="sm_80").compiled.binary.image.startswith(b"\x7fELF")


@pytest.mark.parametrize(
    ("layout", "place"),
    [(lambda i, j: i * 64 + (j ^ i % 8), "a + k % 3 * 2048"), (lambda i, j: i * 65 + (i + j) % 65, "a + k % 3 * 2080")],
    ids=["digits", "table"],
)
def test_code_that_is_given_a_pipelined_tile_finds_the_annotated_layout_in_every_slot(layout: Any, place: str) -> None:
    @T.prim_func
    def kernel(A: T.Tensor((32, 640), "float32"), B: T.Tensor((640,), "float32")):
        with T.Kernel(1, threads=128):
            a = T.alloc_shared((32, 64), "float32")
            T.annotate_layout({a: layout})
            for k in T.Pipelined(10, num_stages=3):
                T.copy(A[0, k * 64], a)
                T.call_extern("handle", "consume", T.access_ptr(a[0, 0], "r"), T.access_ptr(B[0], "w"))

    lines = [line for line in body_of(kernel) if line.startswith("consume(")]
    assert len(lines) == 1 and lines[0].startswith(f"consume({place}"), lines
