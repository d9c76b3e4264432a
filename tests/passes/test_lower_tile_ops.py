"""Lowering: no tile operation is left, scratch tiles join their launch, packed copies become PackPanels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilewright.language as T
from tests.execution import integers, run
from tests.passes.products import after, all_of, exact, operands, product
from tilewright import dtypes
from tilewright.errors import CompilerBug, Span
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import const
from tilewright.ir.stmt import MatrixMultiply, PackPanels, ParallelFor, Seq
from tilewright.ir.tileop import Storage, TileOp
from tilewright.language.function import PrimFunc
from tilewright.passes import PassContext
from tilewright.passes.lower_tile_ops import CpuLowering, lower_tile_ops
from tilewright.passes.walk import launch_facts
from tilewright.target.cpu import host_target


def lowered(prim_func: PrimFunc) -> Any:
    program, context = after(prim_func, lower_tile_ops)
    for launch in program.launches:
        assert not all_of(launch, TileOp)
        assert all(b in context.plans for b in launch.buffers)
    return program.launches[0]


@T.prim_func
def everything(A: T.Tensor((16, 16), "float32"), B: T.Tensor((16,), "float32")):
    with T.Kernel(1):
        a, b, c = T.alloc_shared((16, 16), "float32"), T.alloc_shared((16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
        row = T.alloc_fragment((16,), "float32")
        T.copy(A, a)
        T.transpose(a, b)
        T.clear(c)
        T.gemm(a, b, c)
        T.cumsum(c, dim=1)
        T.reduce_max(c, row, dim=1)
        T.copy(row, B)
        T.atomic_add(B, row)


def test_nothing_but_loops_and_products_is_left() -> None:
    launch = lowered(everything)
    assert len(all_of(launch, MatrixMultiply)) == 1 and len(all_of(launch, ParallelFor)) >= 6
    assert {b.name for b in launch.buffers} >= {"a", "b", "c", "row", "running"}
    a = integers((16, 16))
    wanted = 2 * np.cumsum(a @ a.T, axis=1).max(1)
    np.testing.assert_array_equal(run(everything, A=a, B=np.zeros(16, np.float32))["B"], wanted)


@pytest.mark.parametrize(("tb", "strided"), [(False, False), (True, False)])
def test_copies_into_panels_pack(tb: bool, strided: bool) -> None:
    launch = lowered(product(40, 36, 24, 20, 12, 10, tb=tb))
    (pack,), (multiply,) = all_of(launch, PackPanels), all_of(launch, MatrixMultiply)
    assert pack.is_transposed is tb and multiply.b is pack.panels and multiply.b_panel == pack.panel
    assert (pack.depth, pack.columns) == (30, 12)  # three steps of ten merged
    assert not pack.valid_depth.is_const or not pack.valid_columns.is_const


def test_a_transposed_tile_that_is_no_panel_is_packed_before_the_product() -> None:
    @T.prim_func
    def kernel(A: T.Tensor((16, 20), "float32"), C: T.Tensor((16, 16), "float32")):
        with T.Kernel(1):
            a, c = T.alloc_shared((16, 20), "float32"), T.alloc_fragment((16, 16), "float32")
            T.copy(A, a)
            T.gemm(a, a, c, transpose_B=True, clear_accum=True)
            T.copy(c, C)

    launch = lowered(kernel)
    assert len(all_of(launch, PackPanels)) == 1 and "b_panels" in {b.name for b in launch.buffers}
    a = integers((16, 20))
    np.testing.assert_array_equal(run(kernel, A=a, C=np.zeros((16, 16), np.float32))["C"], a @ a.T)


def test_packing_at_a_point_of_leading_axes() -> None:
    """Tiles of a higher rank hold one packed matrix per point; a point outside the tensor gives zeros."""

    @T.prim_func
    def kernel(A: T.Tensor((16, 16), "float32"), B: T.Tensor((3, 16, 16), "float32"), C: T.Tensor((2, 2, 16, 16), "float32")):
        with T.Kernel(2) as bx:
            a, b, c = T.alloc_shared((16, 16), "float32"), T.alloc_shared((2, 16, 16), "float32"), T.alloc_fragment((16, 16), "float32")
            T.copy(A, a)
            for stage in T.serial(2):
                T.copy(B[bx * 2 + stage, :, :], b[stage, :, :])
            for stage in T.serial(2):
                T.gemm(a, b[stage, :, :], c, clear_accum=True)
                T.copy(c, C[bx, stage, :, :])

    program, context = after(kernel, lower_tile_ops)
    assert any(p.storage is Storage.PANELS for p in context.plans.values()) and len(all_of(program.launches[0], PackPanels)) == 1
    a, b = integers((16, 16)), integers((3, 16, 16), seed=1)
    wanted = np.zeros((2, 2, 16, 16))
    wanted.reshape(4, 16, 16)[:3] = a @ b
    np.testing.assert_array_equal(run(kernel, A=a, B=b, C=np.zeros((2, 2, 16, 16), np.float32))["C"], wanted)


def test_the_lowering_context() -> None:
    context = PassContext(host_target())
    launch = product(16, 16, 16).program.launches[0]
    lowering = CpuLowering(launch, context)
    here = Span("kernel.py", 1)
    made = lowering.scratch("held", dtypes.float64, (3, 5), here)
    assert made.scope is Scope.SHARED and lowering.scratches == [made]
    assert (lowering.plan(made).dtype, lowering.plan(made).row_pitch) == ("float64", 5)
    tensor = Buffer("A", dtypes.float16, (4, 7), Scope.GLOBAL, here)
    assert (lowering.plan(tensor).dtype, lowering.plan(tensor).row_pitch, lowering.plan(tensor).storage) == ("float16", 7, Storage.ROW_MAJOR)
    assert lowering.panel_columns(dtypes.float32) == context.panel_columns(dtypes.float32)
    assert launch_facts(launch).range_of(launch.block_variables[0]).low == 0
    with pytest.raises(CompilerBug):
        lowering.lower_packed_copy(Seq(here, ()))


def test_results_of_ragged_packed_products() -> None:
    for m, n, k in ((1, 1, 1), (41, 35, 23)):
        for tb in (False, True):
            arguments = operands(m, n, k, tb=tb)
            np.testing.assert_array_equal(run(product(m, n, k, 20, 12, 10, tb=tb), **arguments)["C"], exact(arguments, tb=tb))


def test_an_unchanged_program_without_operations() -> None:
    @T.prim_func
    def kernel(B: T.Tensor((4,), "float32")):
        with T.Kernel(1):
            for i in T.Parallel(4):
                B[i] = i

    assert lowered(kernel).body is kernel.program.launches[0].body
    assert const(0).value == 0
