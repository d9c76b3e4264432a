"""Products of a few rows against numpy, exactly: integer values, every layout and dtype, and nothing written or read where it must not be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.codegen.llvm.elementwise import undefined_symbols_of_elf
from tests.codegen.llvm.native import NativeFunctions, assembly, page_end_array
from tilewright.codegen.llvm.emitter import Module
from tilewright.codegen.llvm.stream import StreamShape, emit_stream_multiply
from tilewright.dtypes import as_dtype
from tilewright.errors import CompilerBug
from tilewright.runtime.llvm_jit import compile_object
from tilewright.target.cpu import AVX2, AVX512, NEON, PRESETS, host_target

PARAMETERS = ("ptr", "ptr", "ptr", "i64", "i64", "i64", "i1 zeroext")
GUARD = 77
DEPTHS = (0, 1, 7, 8, 9, 16, 40, 133)
MOST_DEPTH = max(DEPTHS)
DTYPES = [
    ("float32", "float32"),
    ("float16", "float32"),
    ("bfloat16", "float32"),
    ("int8", "int32"),
    ("float64", "float64"),
    ("float8_e4m3fn", "float32"),
    ("uint8", "int32"),
]


def make_shape(number: int, rows: int, blocks: int, columns: int, is_transposed: bool, has_apart_k: bool = False) -> StreamShape:
    source, dtype = (as_dtype(name) for name in DTYPES[number % len(DTYPES)])
    strides = (1, rows + 2) if has_apart_k else (MOST_DEPTH + number, 1)
    return StreamShape(rows, blocks, columns, source, dtype, *strides, columns + number, rows * (columns + number) + 3, is_transposed)


SIZES = [(1, 1, 128), (1, 3, 40), (2, 2, 7), (3, 1, 64), (4, 2, 33), (5, 1, 1), (8, 2, 24), (13, 1, 130), (16, 2, 17), (17, 1, 20)]
SHAPES = [make_shape(i, *size, is_transposed) for is_transposed in (False, True) for i, size in enumerate(SIZES)]
SHAPES += [make_shape(0, 3, 2, 20, is_transposed, has_apart_k=True) for is_transposed in (False, True)]


@pytest.fixture(scope="module")
def native() -> NativeFunctions:
    module = Module()
    return NativeFunctions(module, {emit_stream_multiply(module, host_target(), shape): PARAMETERS for shape in SHAPES})


def place(values: np.ndarray, *strides: int) -> np.ndarray:
    """Memory that holds the values at those strides and ends with the last of them; what lies between is a guard value."""
    memory = page_end_array(1 + sum((n - 1) * s for n, s in zip(values.shape, strides, strict=True)) if values.size else 0, values.dtype)
    memory[...] = GUARD
    if values.size:
        memory[sum(i * s for i, s in zip(np.indices(values.shape), strides, strict=True))] = values
    return memory


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.function_name)
def test_products_are_exact_and_stay_inside(native: NativeFunctions, shape: StreamShape) -> None:
    generator = np.random.default_rng(3)
    low = 0 if shape.source_dtype.numpy.kind == "u" else -6
    total = shape.blocks * shape.block_columns
    for depth in DEPTHS:
        for valid in sorted({0, 1, total // 2, total - 1, total, total + 5}):
            width = min(valid, total)
            a = generator.integers(low, 6, (shape.rows, depth)).astype(shape.dtype.numpy)
            b = generator.integers(low, 6, (depth, width)).astype(shape.source_dtype.numpy)
            stride = 3 + (depth if shape.is_transposed else width)
            b_memory = place(b, 1, stride) if shape.is_transposed else place(b, stride, 1)
            for is_overwriting in (False, True):
                memory = np.full(shape.blocks * shape.c_block_stride + 10, GUARD, shape.dtype.numpy)
                block, row, column = np.indices((shape.blocks, shape.rows, shape.block_columns))
                at = block * shape.c_block_stride + row * shape.c_row_stride + column
                old = generator.integers(low, 6, at.shape).astype(shape.dtype.numpy)
                memory[at] = old
                product = np.zeros((shape.rows, total))
                product[:, :width] = a.astype(np.float64) @ b.astype(np.float64)
                expected = memory.copy()
                expected[at] = (0 if is_overwriting else old) + product.reshape(shape.rows, shape.blocks, -1).swapaxes(0, 1)
                native.call(shape.function_name, place(a, shape.a_row_stride, shape.a_k_stride), b_memory, memory, stride, depth, valid, is_overwriting)
                np.testing.assert_array_equal(memory, expected)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_absent_columns_count_as_zeros(native: NativeFunctions, is_transposed: bool) -> None:
    """So they give NaN where the other operand is infinite, as padding would."""
    shape = next(s for s in SHAPES if s.dtype == "float32" and s.source_dtype == "float32" and s.blocks == 1 and s.is_transposed is is_transposed)
    a = np.ones((shape.rows, 10), np.float32)
    a[0, 3] = np.inf
    b = np.ones((10, 10), np.float32)
    c = np.full(shape.c_block_stride, np.nan, np.float32)
    native.call(shape.function_name, place(a, shape.a_row_stride, shape.a_k_stride), b, c, 10, 10, 10, True)
    assert np.isinf(c[:10]).all() and np.isnan(c[10 : shape.block_columns]).all()


def test_a_negative_depth_and_width_are_none(native: NativeFunctions) -> None:
    for shape in SHAPES[:1] + SHAPES[len(SIZES) : len(SIZES) + 1]:
        c = np.full(shape.block_columns, GUARD, np.float32)
        empty = np.zeros(0, np.float32)
        native.call(shape.function_name, empty, empty, c, 4, -3, 5, False)
        native.call(shape.function_name, np.ones(200, np.float32), empty, c, 4, 3, -5, False)
        assert (c == GUARD).all()


def test_equal_shapes_share_a_function() -> None:
    module, shape = Module(), SHAPES[0]
    assert emit_stream_multiply(module, host_target(), shape) == emit_stream_multiply(module, host_target(), replace(shape))
    assert list(module.functions) == [shape.function_name]


def test_names_tell_shapes_apart() -> None:
    shape = SHAPES[0]
    fields = ("rows", "blocks", "block_columns", "a_row_stride", "a_k_stride", "c_row_stride", "c_block_stride")
    changed = [replace(shape, **{field: getattr(shape, field) + 16}) for field in fields]
    changed += [replace(shape, dtype=as_dtype("float64")), replace(shape, source_dtype=as_dtype("int8")), replace(shape, is_transposed=True)]
    changed += [replace(shape, a_row_stride=-shape.a_row_stride)]
    assert len({s.function_name for s in (shape, *changed)}) == len(changed) + 1


def test_what_cannot_be_read_is_refused() -> None:
    for change in ({"source_dtype": as_dtype("int4")}, {"source_dtype": as_dtype("bool")}, {"dtype": as_dtype("float16")}):
        with pytest.raises(CompilerBug):
            emit_stream_multiply(Module(), AVX2, replace(SHAPES[0], **change))


@pytest.mark.parametrize("target", PRESETS.values(), ids=list(PRESETS))
def test_every_preset_compiles_without_library_calls(target) -> None:
    module = Module()
    for number in range(len(DTYPES)):
        for is_transposed in (False, True):
            emit_stream_multiply(module, target, make_shape(number, 5, 2, 100, is_transposed))
    for function in module.functions.values():
        function.result = "void"  # visible outside, so that the object keeps it
    assert undefined_symbols_of_elf(compile_object(module.text(), target)) in ([], ["_GLOBAL_OFFSET_TABLE_"])


@pytest.mark.parametrize(("target", "vector"), [(AVX2, "ymm"), (AVX512, "zmm"), (NEON, "q")], ids=["avx2", "avx512", "neon"])
@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 8])
def test_sums_stay_in_registers(target, vector: str, is_transposed: bool, rows: int) -> None:
    """No vector on the stack."""
    module = Module()
    emit_stream_multiply(module, target, make_shape(0, rows, 1, 128, is_transposed))
    for function in module.functions.values():
        function.result = "void"
    lines = assembly(module, target).splitlines()
    assert not [line for line in lines if (f"%{vector}" in line and "(%rsp)" in line) or ("[sp" in line and f"\t{vector}" in line and "str" in line)]
