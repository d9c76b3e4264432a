"""How tiles are stored: the choice follows the consumer, and whatever is chosen, the elements are what was written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, run
from tests.passes.products import after, exact, operands, product, without
from tilewright.ir.tileop import Storage, TilePlan
from tilewright.language.function import PrimFunc
from tilewright.ops.gemm import panel_stride
from tilewright.passes import PassContext, run_passes
from tilewright.passes.forward_operands import forward_operands
from tilewright.passes.group_blocks import group_blocks
from tilewright.passes.merge_depth import merge_depth
from tilewright.passes.plan_tiles import plan_tiles
from tilewright.passes.stream_operands import stream_operands
from tilewright.target.cpu import host_target


def plans(prim_func: PrimFunc) -> dict[str, TilePlan]:
    """By the tile's name, with the passes that rearrange left out."""
    context = PassContext(host_target())
    passes = without(stream_operands, merge_depth, forward_operands, group_blocks)
    program = run_passes(prim_func.program, context, passes[: passes.index(plan_tiles) + 1])
    assert set(context.plans) >= {b for launch in program.launches for b in launch.buffers}
    return {buffer.name: plan for buffer, plan in context.plans.items()}


@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize(
    ("operand", "accumulator", "compute"), [("float16", "float32", "float32"), ("int8", "int32", "int32"), ("float64", "float64", "float64")]
)
def test_a_second_operand_is_kept_in_panels(operand: str, accumulator: str, compute: str, tb: bool) -> None:
    kernel = product(40, 36, 24, 20, 12, 10, operand, accumulator, tb=tb)
    found = plans(kernel)
    panel = PassContext(host_target()).panel_columns(T.dtype(compute))
    assert vars(found["b"]) == vars(TilePlan(T.dtype(compute), Storage.PANELS, 10 if tb else 12, panel, panel_stride(10, panel), tb))
    assert (found["a"].dtype, found["a"].storage) == (compute, Storage.ROW_MAJOR)
    assert (found["c"].dtype, found["c"].storage) == (compute, Storage.ROW_MAJOR)
    arguments = operands(40, 36, 24, operand, accumulator, tb=tb)
    np.testing.assert_array_equal(run(kernel, **arguments)["C"], exact(arguments, tb=tb))


def test_rows_that_would_alias_in_a_cache_are_spread() -> None:
    assert plans(product(16, 16, 128, bk=128))["a"].row_pitch == 128 + 16
    assert plans(product(16, 16, 120, bk=120))["a"].row_pitch == 120
    arguments = operands(16, 16, 128)
    np.testing.assert_array_equal(run(product(16, 16, 128, bk=128), **arguments)["C"], exact(arguments))


def test_tiles_of_no_product_stay_as_declared() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 128), "float16")):
        with T.Kernel(1):
            held = T.alloc_shared((16, 128), "float16")
            T.copy(A, held)

    assert vars(plans(kernel)["held"]) == vars(TilePlan(T.float16, Storage.ROW_MAJOR, 128))


def staged(statement: Any = None, start: Any = 0, source: Any = None, safe: Any = None, transpose: bool = False) -> PrimFunc:
    """One product, with `statement` before it."""

    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "float16"), B: T.Tensor((40, 40), "float16"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 16), "float16"), T.alloc_shared((16, 16), "float16"), T.alloc_fragment((16, 16), "float32")
            if safe is not None:
                T.annotate_safe_value({B: safe})
            T.copy(A, a)
            T.copy(B[start, 8] if source is None else B[source], b)
            T.clear(c)
            if statement is not None:
                statement(a, b, c)
            T.gemm(a, b, c, transpose_B=transpose)
            T.copy(c, C)

    return kernel


def arguments() -> dict[str, Any]:
    return {"A": integers((16, 16), np.float16), "B": integers((40, 40), np.float16, seed=1), "C": np.zeros((16, 16), np.float32)}


def test_tiles_that_are_used_otherwise_lie_in_rows() -> None:
    @T.macro
    def element(a: Any, b: Any, c: Any) -> None:
        for i in T.Parallel(16):
            b[i, 3] = b[i, 3] + 1

    def part(a: Any, b: Any, c: Any) -> None:
        T.clear(b[0:4, :])

    def first(a: Any, b: Any, c: Any) -> None:
        T.gemm(b, a, c)

    def turned(a: Any, b: Any, c: Any) -> None:
        T.gemm(a, b, c, transpose_B=True)

    def view(a: Any, b: Any, c: Any) -> None:
        T.clear(T.reshape(b, (256,)))

    given = arguments()
    a, b = given["A"].astype(np.float64), given["B"].astype(np.float64)[:16, 8:24]
    stepped, cleared = b.copy(), b.copy()
    stepped[:, 3] += 1
    cleared[:4] = 0
    for statement, wanted in ((element, a @ stepped), (part, a @ cleared), (first, a @ b + b @ a), (turned, a @ b + a @ b.T), (view, 0 * a)):
        assert plans(staged(statement))["b"].storage is Storage.ROW_MAJOR
        np.testing.assert_array_equal(run(staged(statement), **given)["C"], wanted)
    assert plans(staged(view))["b"].dtype == "float16"


@pytest.mark.parametrize(("start", "is_packed"), [(0, True), (30, True), (-1, False)])
def test_a_copy_that_begins_before_its_tensor_is_not_packed(start: int, is_packed: bool) -> None:
    kernel = staged(source=(slice(start, start + 16), slice(8, 24)))
    assert (plans(kernel)["b"].storage is Storage.PANELS) is is_packed
    given = arguments()
    padded = np.zeros((60, 60))
    padded[1:41, 1:41] = given["B"]
    np.testing.assert_array_equal(run(kernel, **given)["C"], given["A"] @ padded[start + 1 : start + 17, 9:25])


@pytest.mark.parametrize("transpose", [False, True])
def test_safe_values_are_not_zeros(transpose: bool) -> None:
    kernel = staged(source=(slice(30, 46), slice(30, 46)), safe=3, transpose=transpose)
    given = arguments()
    padded = np.full((60, 60), 3.0)
    padded[:40, :40] = given["B"]
    window = padded[30:46, 30:46]
    np.testing.assert_array_equal(run(kernel, **given)["C"], given["A"] @ (window.T if transpose else window))


def test_sources_that_cannot_be_packed() -> None:
    @T.prim_func
    def kernel(
        A: T.Tensor((16, 16), "float32"), B: T.StridedTensor((16, 16), (40, 2), "float32"), D: T.Tensor((16, 16), "int8"), C: T.Tensor((16, 16), "float32")
    ):
        with T.Kernel(1):
            a, b, d, c = (
                T.alloc_shared((16, 16), "float32"),
                T.alloc_shared((16, 16), "float32"),
                T.alloc_shared((16, 16), "float32"),
                T.alloc_fragment((16, 16), "float32"),
            )
            T.copy(A, a)
            T.copy(B, b)
            T.copy(D, d)
            T.clear(c)
            T.gemm(a, b, c)
            T.gemm(a, d, c)
            T.copy(c, C)

    found = plans(kernel)
    assert found["b"].storage is found["d"].storage is Storage.ROW_MAJOR
    a, d = integers((16, 16)), integers((16, 16), np.int8, seed=2)
    b = np.lib.stride_tricks.as_strided(integers((900,), seed=1), (16, 16), (160, 8))
    np.testing.assert_array_equal(run(kernel, A=a, B=b, D=d, C=np.zeros((16, 16), np.float32))["C"], a @ b + a @ d)


def test_a_column_major_source_is_packed_by_its_columns() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "float32"), B: T.StridedTensor((16, 13), (1, 20), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, b, c = T.alloc_shared((16, 16), "float32"), T.alloc_shared((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.copy(A, a)
            T.copy(B[0:16, 0:16], b)
            T.gemm(a, b, c, clear_accum=True)
            T.copy(c, C)

    assert plans(kernel)["b"].storage is Storage.PANELS
    a = integers((16, 16))
    b = np.lib.stride_tricks.as_strided(integers((900,), seed=1), (16, 13), (4, 80))
    wanted = np.zeros((16, 16))
    wanted[:, :13] = a @ b
    np.testing.assert_array_equal(run(kernel, A=a, B=b, C=np.zeros((16, 16), np.float32))["C"], wanted)


def test_products_in_different_dtypes_keep_the_declared_one() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "float32"), C: T.Tensor((16, 16), "float32"), D: T.Tensor((16, 16), "float64")):
        with T.Kernel(1):
            a, b, c, d = (
                T.alloc_shared((16, 16), "float32"),
                T.alloc_shared((16, 16), "float32"),
                T.alloc_fragment((16, 16), "float32"),
                T.alloc_fragment((16, 16), "float64"),
            )
            T.copy(A, a)
            T.copy(A, b)
            T.gemm(a, b, c, clear_accum=True)
            T.gemm(a, b, d, clear_accum=True)
            T.copy(c, C)
            T.copy(d, D)

    found = plans(kernel)
    assert vars(found["a"]) == vars(found["b"]) == vars(TilePlan(T.float32, Storage.ROW_MAJOR, 16))
    a = integers((16, 16))
    results = run(kernel, A=a, C=np.zeros((16, 16), np.float32), D=np.zeros((16, 16)))
    np.testing.assert_array_equal(results["C"], a @ a)
    np.testing.assert_array_equal(results["D"], a @ a)


def test_remarks_name_the_tiles() -> None:
    _, context = after(product(40, 36, 24, 20, 12, 10, "float16"), plan_tiles)
    texts = [r.text for r in context.remarks]
    assert any(t.startswith("b is kept in panels") for t in texts) and any(t.startswith("a is kept as float32") for t in texts)
