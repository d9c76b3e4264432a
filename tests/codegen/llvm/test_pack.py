"""Packed tiles against numpy: every layout, element type and ragged edge."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ml_dtypes  # noqa: F401  (registers bfloat16 and the fp8 types with numpy)
import numpy as np
import pytest

from tests.codegen.llvm.elementwise import undefined_symbols_of_elf
from tests.codegen.llvm.native import NativeFunctions, page_end_array
from tilewright.codegen.llvm.blocking import panel_columns
from tilewright.codegen.llvm.emitter import Module
from tilewright.codegen.llvm.pack import PackShape, emit_pack
from tilewright.dtypes import as_dtype
from tilewright.errors import CompilerBug
from tilewright.runtime.llvm_jit import compile_object
from tilewright.target.cpu import PRESETS, host_target

PARAMETERS = ("ptr", "ptr", "i64", "i64", "i64")
GUARD = 99
SOURCES = [
    ("float32", "float32"),
    ("float16", "float32"),
    ("bfloat16", "float32"),
    ("float8_e4m3fn", "float32"),
    ("float64", "float64"),
    ("int8", "int32"),
    ("uint8", "int32"),
    ("int16", "int32"),
    ("int32", "int32"),
    ("uint16", "int64"),
]


def make_shape(source: str, compute: str, rows: int, columns: int, has_panels: bool, is_transposed: bool, pad: int) -> PackShape:
    dtype = as_dtype(compute)
    panel = panel_columns(host_target(), dtype) if has_panels else 0
    if panel:
        return PackShape(rows, columns, as_dtype(source), dtype, panel, panel, rows * panel + pad, is_transposed)
    return PackShape(rows, columns, as_dtype(source), dtype, columns + pad, is_transposed=is_transposed)


def random_shapes() -> list[PackShape]:
    generator = np.random.default_rng(11)
    sizes = [(1, 1), (4, 16), (8, 8), (64, 64), (5, 33), (13, 100), (30, 7), (21, 48)]
    shapes = []
    for i, (source, compute) in enumerate(SOURCES * 2):
        rows, columns = sizes[(i + i // len(SOURCES)) % len(sizes)]
        for is_transposed in (False, True):
            shapes.append(make_shape(source, compute, rows, columns, i % 3 != 0, is_transposed, int(generator.integers(0, 20))))
    return list(dict.fromkeys(shapes))


SHAPES = random_shapes()


@pytest.fixture(scope="module")
def native() -> NativeFunctions:
    module = Module()
    names = [emit_pack(module, host_target(), shape) for shape in SHAPES]
    return NativeFunctions(module, dict.fromkeys(names, PARAMETERS))


def source_matrix(shape: PackShape, rows: int, columns: int, stride_pad: int) -> np.ndarray:
    """As it lies in memory, with one element more than needed per line."""
    lines, length = (columns, rows) if shape.is_transposed else (rows, columns)
    values = np.random.default_rng(5).integers(0, 100, (lines, length + stride_pad))
    return values.astype(np.int64).astype(shape.source_dtype.numpy)


def packed(shape: PackShape, matrix: np.ndarray, destination: np.ndarray) -> np.ndarray:
    """`destination` with the (already padded) matrix of the tile's shape stored in it."""
    result = destination.copy()
    rows, columns = np.indices(matrix.shape)
    if shape.panel:
        offsets = columns // shape.panel * shape.panel_stride + rows * shape.row_stride + columns % shape.panel
    else:
        offsets = rows * shape.row_stride + columns
    result[offsets] = matrix
    return result


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.function_name)
def test_packed_tiles_are_exact_and_stay_inside(native: NativeFunctions, shape: PackShape) -> None:
    panels = -(-shape.columns // shape.panel) if shape.panel else 0
    stored_columns = panels * shape.panel or shape.columns
    extents = [
        (shape.rows, shape.columns),
        (shape.rows + 5, shape.columns + 5),
        (shape.rows - 1, shape.columns),
        (shape.rows, shape.columns - 1),
        (shape.rows // 2, shape.columns // 2),
        (0, shape.columns),
        (shape.rows, 0),
        (-3, -4),
    ]
    for valid_rows, valid_columns in extents:
        rows, columns = min(max(valid_rows, 0), shape.rows), min(max(valid_columns, 0), shape.columns)
        source = source_matrix(shape, rows, columns, 3)
        matrix = source[:, : source.shape[1] - 3]
        expected = np.zeros((shape.rows, stored_columns), shape.dtype.numpy)
        expected[:rows, :columns] = (matrix.T if shape.is_transposed else matrix).astype(np.float64).astype(shape.dtype.numpy)
        size = panels * shape.panel_stride if shape.panel else shape.rows * shape.row_stride
        destination = np.full(size + 64, GUARD, shape.dtype.numpy)
        wanted = packed(shape, expected, destination)
        native.call(shape.function_name, source, destination, source.shape[1], valid_rows, valid_columns)
        np.testing.assert_array_equal(destination, wanted)


def test_floats_keep_their_bits() -> None:
    """Signed zeros, infinities, subnormals and NaN of float16 become the float32 of the same value."""
    shape = make_shape("float16", "float32", 256, 256, False, False, 0)
    module = Module()
    functions = NativeFunctions(module, {emit_pack(module, host_target(), shape): PARAMETERS})
    source = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    result = np.zeros((256, 256), np.float32)
    functions.call(shape.function_name, source, result, 256, 256, 256)
    expected = source.astype(np.float32)
    is_number = ~np.isnan(expected)
    np.testing.assert_array_equal(result[is_number].view(np.uint32), expected[is_number].view(np.uint32))
    assert np.isnan(result[~is_number]).all()


def test_equal_shapes_share_a_function_and_others_do_not() -> None:
    module, shape = Module(), SHAPES[0]
    assert emit_pack(module, host_target(), shape) == emit_pack(module, host_target(), replace(shape))
    assert list(module.functions) == [shape.function_name]
    base = PackShape(8, 16, as_dtype("float16"), as_dtype("float32"), 16, 16, 128)
    changed = [replace(base, **{field: getattr(base, field) + 16}) for field in ("rows", "columns", "row_stride", "panel", "panel_stride")]
    changed += [
        replace(base, source_dtype=as_dtype("bfloat16")),
        replace(base, dtype=as_dtype("float64")),
        replace(base, is_transposed=True),
        replace(base, panel=0),
    ]
    assert len({s.function_name for s in (base, *changed)}) == len(changed) + 1


@pytest.mark.parametrize(("source", "compute"), [("int4", "int32"), ("float16", "float16")])
def test_dtypes_that_cannot_be_packed_are_refused(source: str, compute: str) -> None:
    with pytest.raises(CompilerBug, match=source):
        emit_pack(Module(), host_target(), PackShape(8, 16, as_dtype(source), as_dtype(compute), 16))


@pytest.mark.parametrize("target", PRESETS.values(), ids=list(PRESETS))
def test_every_preset_compiles_without_library_calls(target) -> None:
    module = Module()
    for source, compute in (("float32", "float32"), ("float16", "float32"), ("bfloat16", "float32"), ("float64", "float64"), ("int8", "int32")):
        panel = panel_columns(target, as_dtype(compute))
        for is_transposed in (False, True):
            emit_pack(module, target, PackShape(20, 2 * panel + 3, as_dtype(source), as_dtype(compute), panel, panel, 20 * panel, is_transposed))
    for function in module.functions.values():
        function.result = "void"  # visible outside, so that the object keeps it
    assert undefined_symbols_of_elf(compile_object(module.text(), target)) in ([], ["_GLOBAL_OFFSET_TABLE_"])


def touch_page_ends() -> None:
    """Packs sources and fills destinations that end where memory ends; an access behind them is a segmentation fault."""
    module = Module()
    shapes = [
        make_shape(source, compute, 13, 21, has_panels, is_transposed, 0)
        for source, compute in (("float32", "float32"), ("float16", "float32"))
        for has_panels in (False, True)
        for is_transposed in (False, True)
    ]
    functions = NativeFunctions(module, {emit_pack(module, host_target(), shape): PARAMETERS for shape in shapes})
    for shape in shapes:
        lines, length = (21, 13) if shape.is_transposed else (13, 21)
        source = page_end_array(lines * length, shape.source_dtype.numpy)
        source[...] = 3
        size = -(-shape.columns // shape.panel) * shape.panel_stride if shape.panel else shape.rows * shape.row_stride
        destination = page_end_array(size, shape.dtype.numpy)
        functions.call(shape.function_name, source, destination, length, shape.rows, shape.columns)
        assert destination.sum() == 3 * 13 * 21


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
def test_nothing_behind_the_operands_is_touched() -> None:
    subprocess.run(
        [sys.executable, "-c", "from tests.codegen.llvm.test_pack import touch_page_ends; touch_page_ends()"],
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
