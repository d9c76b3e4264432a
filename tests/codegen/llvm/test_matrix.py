"""Products against numpy, exactly: integer values, every layout, and nothing written or read where it must not be."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.codegen.llvm.elementwise import undefined_symbols_of_elf
from tests.codegen.llvm.native import NativeFunctions, assembly, page_end_array
from tilewright.codegen.llvm.blocking import panel_columns
from tilewright.codegen.llvm.emitter import Module
from tilewright.codegen.llvm.matrix import MatrixShape, emit_matrix_multiply
from tilewright.dtypes import as_dtype
from tilewright.errors import CompilerBug
from tilewright.runtime.llvm_jit import compile_object
from tilewright.target.cpu import AVX2, AVX512, NEON, PRESETS, host_target

PARAMETERS = ("ptr", "ptr", "ptr", "i64", "i1 zeroext")
MOST_DEPTH = 700  # more than one stretch of k
GUARD = 77


@dataclass(frozen=True)
class Case:
    """A product and how far apart its memory lies."""

    shape: MatrixShape
    is_a_transposed: bool


def make_case(dtype_name: str, rows: int, columns: int, is_a_transposed: bool, has_panels: bool, pad: int) -> Case:
    dtype = as_dtype(dtype_name)
    a_strides = (1, rows + pad) if is_a_transposed else (MOST_DEPTH + pad, 1)
    panel = panel_columns(host_target(), dtype) if has_panels else 0
    b_strides = (panel, panel, MOST_DEPTH * panel + pad) if panel else (columns + pad, 0, 0)
    return Case(MatrixShape(rows, columns, dtype, *a_strides, b_strides[0], columns + pad, *b_strides[1:]), is_a_transposed)


def random_cases() -> list[Case]:
    generator = np.random.default_rng(7)
    sizes = [(1, 1), (1, 16), (2, 40), (3, 7), (4, 130), (5, 16), (6, 16), (7, 17), (13, 31), (16, 1), (31, 8), (37, 67), (128, 64)]
    sizes += [(int(rows), int(columns)) for rows, columns in generator.integers(1, 50, (12, 2))]
    cases = []
    for i, (rows, columns) in enumerate(sizes):
        dtype = ("float32", "float32", "float64", "int32", "float32", "int64", "uint32")[i % 7]
        cases.append(make_case(dtype, rows, columns, bool(generator.integers(2)), bool(generator.integers(2)), int(generator.integers(0, 9))))
    return cases


CASES = random_cases()


@pytest.fixture(scope="module")
def native() -> NativeFunctions:
    module = Module()
    names = [emit_matrix_multiply(module, host_target(), case.shape) for case in CASES]
    return NativeFunctions(module, dict.fromkeys(names, PARAMETERS))


def stored_a(case: Case, a: np.ndarray) -> np.ndarray:
    shape = case.shape
    memory = np.full((shape.rows - 1) * shape.a_row_stride + (MOST_DEPTH - 1) * shape.a_k_stride + 1, GUARD, a.dtype)
    rows, ks = np.indices(a.shape)
    memory[rows * shape.a_row_stride + ks * shape.a_k_stride] = a
    return memory


def stored_b(case: Case, b: np.ndarray) -> np.ndarray:
    shape = case.shape
    columns = -(-shape.columns // shape.b_panel) * shape.b_panel if shape.b_panel else shape.columns
    memory = np.full(shape.b_offset(columns - 1) + (MOST_DEPTH - 1) * shape.b_k_stride + 1, GUARD, b.dtype)
    ks, _ = np.indices(b.shape)
    offsets = np.array([shape.b_offset(column) for column in range(shape.columns)])
    memory[ks * shape.b_k_stride + offsets] = b
    return memory


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.shape.function_name)
def test_products_are_exact_and_stay_inside(native: NativeFunctions, case: Case) -> None:
    shape, generator = case.shape, np.random.default_rng(3)
    numpy_dtype = shape.dtype.numpy
    low = 0 if numpy_dtype.kind == "u" else -9
    for depth in (*range(10), 37, 256, MOST_DEPTH):
        a = generator.integers(low, 9, (shape.rows, depth)).astype(numpy_dtype)
        b = generator.integers(low, 9, (depth, shape.columns)).astype(numpy_dtype)
        for is_overwriting in (False, True):
            memory = np.full((shape.rows + 2, shape.c_row_stride), GUARD, numpy_dtype)
            c = memory[1:-1, : shape.columns]
            c[...] = generator.integers(low, 9, c.shape)
            expected = memory.copy()
            expected[1:-1, : shape.columns] = (0 if is_overwriting else c) + a @ b
            native.call(shape.function_name, stored_a(case, a), stored_b(case, b), memory[1:], depth, is_overwriting)
            np.testing.assert_array_equal(memory, expected)


def test_overwriting_ignores_nan_in_c(native: NativeFunctions) -> None:
    case = next(c for c in CASES if c.shape.dtype == "float32" and c.shape.rows > 6)
    shape = case.shape
    a, b = np.ones((shape.rows, 300), np.float32), np.ones((300, shape.columns), np.float32)
    c = np.full((shape.rows, shape.c_row_stride), np.nan, np.float32)
    native.call(shape.function_name, stored_a(case, a), stored_b(case, b), c, 300, True)
    np.testing.assert_array_equal(c[:, : shape.columns], 300)


def test_integers_wrap() -> None:
    case = make_case("int32", 3, 5, False, False, 0)
    module = Module()
    functions = NativeFunctions(module, {emit_matrix_multiply(module, host_target(), case.shape): PARAMETERS})
    a, b = np.full((3, 2), 2**30, np.int32), np.full((2, 5), 3, np.int32)
    c = np.zeros((3, 5), np.int32)
    functions.call(case.shape.function_name, stored_a(case, a), stored_b(case, b), c, 2, True)
    np.testing.assert_array_equal(c, a @ b)


def test_equal_shapes_share_a_function() -> None:
    module, shape = Module(), CASES[0].shape
    assert emit_matrix_multiply(module, host_target(), shape) == emit_matrix_multiply(module, host_target(), replace(shape))
    assert list(module.functions) == [shape.function_name]


def test_names_tell_shapes_apart() -> None:
    shape = MatrixShape(8, 16, as_dtype("float32"), 64, 1, 16, 16, 16, 1024)
    changed = [
        replace(shape, **{field: getattr(shape, field) + 16})
        for field in ("rows", "columns", "a_row_stride", "a_k_stride", "b_k_stride", "c_row_stride", "b_panel", "b_panel_stride")
    ]
    changed += [replace(shape, dtype=as_dtype("float64")), replace(shape, a_row_stride=-64), replace(shape, b_panel=0)]
    assert len({s.function_name for s in (shape, *changed)}) == len(changed) + 1


def test_narrow_dtypes_are_refused() -> None:
    with pytest.raises(CompilerBug, match="float16"):
        emit_matrix_multiply(Module(), AVX2, MatrixShape(8, 16, as_dtype("float16"), 64, 1, 16, 16))


@pytest.mark.parametrize("target", PRESETS.values(), ids=list(PRESETS))
@pytest.mark.parametrize("dtype_name", ["float32", "float64", "int32"])
def test_every_preset_compiles_without_library_calls(target, dtype_name: str) -> None:
    dtype = as_dtype(dtype_name)
    module = Module()
    panel = panel_columns(target, dtype)
    emit_matrix_multiply(module, target, MatrixShape(50, 3 * panel + 5, dtype, 72, 1, panel, 200, panel, 64 * panel))
    emit_matrix_multiply(module, target, MatrixShape(7, 2 * panel + 3, dtype, 1, 72, 200, 200))
    for function in module.functions.values():
        function.result = "void"  # visible outside, so that the object keeps it
    assert undefined_symbols_of_elf(compile_object(module.text(), target)) in ([], ["_GLOBAL_OFFSET_TABLE_"])


@pytest.mark.parametrize(
    ("target", "instruction"), [(AVX2, r"vfmadd\w+ps\s.*%ymm"), (AVX512, r"vfmadd\w+ps\s.*%zmm"), (NEON, r"fmla\s+v\d+\.4s")], ids=["avx2", "avx512", "neon"]
)
def test_sums_stay_in_registers(target, instruction: str) -> None:
    """The inner loop of full tiles: as many fused instructions as sums and turns, and no vector on the stack."""
    module, panel = Module(), panel_columns(target, as_dtype("float32"))
    shape = MatrixShape(target.micro_tile.rows * 4, panel, as_dtype("float32"), 264, 1, panel, panel, panel, 256 * panel)
    emit_matrix_multiply(module, target, shape)
    module.functions[shape.function_name].result = "void"
    text = assembly(module, target)
    assert len(re.findall(instruction, text)) >= 4 * target.micro_tile.rows * target.micro_tile.column_vectors
    assert not re.findall(r"[xyz]mm\d+.*\(%rsp\)|\(%rsp\).*[xyz]mm\d+|\bq\d+.*\[sp", text)


def touch_page_ends() -> None:
    """Runs products whose operands end where memory ends; a read or write behind them is a segmentation fault."""
    module, cases = (
        Module(),
        [
            make_case(name, rows, columns, transposed, False, 0)
            for name, rows, columns, transposed in (("float32", 7, 13, False), ("float32", 1, 3, True), ("float64", 9, 7, False), ("int32", 5, 21, True))
        ],
    )
    functions = NativeFunctions(module, {emit_matrix_multiply(module, host_target(), case.shape): PARAMETERS for case in cases})
    for case in cases:
        shape = case.shape
        a, b = stored_a(case, np.ones((shape.rows, MOST_DEPTH), shape.dtype.numpy)), stored_b(case, np.ones((MOST_DEPTH, shape.columns), shape.dtype.numpy))
        placed = []
        for array in (a, b, np.zeros(shape.rows * shape.columns, shape.dtype.numpy)):
            placed.append(page_end_array(array.size, array.dtype))
            placed[-1][...] = array
        functions.call(shape.function_name, *placed, MOST_DEPTH, False)
        np.testing.assert_array_equal(placed[2], MOST_DEPTH)


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
def test_nothing_behind_the_operands_is_touched() -> None:
    subprocess.run(
        [sys.executable, "-c", "from tests.codegen.llvm.test_matrix import touch_page_ends; touch_page_ends()"],
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
