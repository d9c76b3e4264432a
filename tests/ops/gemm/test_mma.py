"""Products on tensor cores: every dtype, transposition, policy and odd shape, through the simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.ops.gemm.simulated import check, names
from tests.ops.gemm.thread_products import SPAN, Case, row_major, swizzled
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import const
from tilewright.ir.stmt import For, If, LoopKind
from tilewright.layout import Layout, tile_axes
from tilewright.ops.gemm.mma import lower_on_tensor_cores
from tilewright.ops.gemm.partition import GemmWarpPolicy
from tilewright.ops.gemm.threads import RegisterTile, SharedTile, ThreadProduct
from tilewright.sim.simulate import simulate
from tilewright.target.nvidia import SM_89, SM_90, NvidiaTarget

TRANSPOSES = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize("transpose_a, transpose_b", TRANSPOSES)
def test_half_operands_are_loaded_without_conflicts_in_any_orientation(transpose_a: bool, transpose_b: bool) -> None:
    body = check(Case(64, 128, 64, transpose_a=transpose_a, transpose_b=transpose_b), max_ways=1)
    a, b = ("ldmatrix.x4.trans.float16" if is_across else "ldmatrix.x4.float16" for is_across in (transpose_a, not transpose_b))
    assert names(body) == {a, b, "mma.m16n8k16.f32.f16.f16.f32"}


@pytest.mark.parametrize("transpose_a, transpose_b", TRANSPOSES)
@pytest.mark.parametrize(
    "a, b, c, k, target",
    [
        ("bfloat16", "bfloat16", "float32", 16, SM_90),
        ("tfloat32", "tfloat32", "float32", 16, SM_90),
        ("int8", "uint8", "int32", 64, SM_90),
        ("uint4", "int4", "int32", 128, SM_90),
        ("float64", "float64", "float64", 8, SM_90),
        ("float8_e4m3fn", "float8_e5m2", "float32", 64, SM_89),
        ("float16", "float16", "float16", 32, SM_90),
        ("bfloat16", "bfloat16", "bfloat16", 32, SM_90),
        ("uint8", "uint8", "uint32", 32, SM_90),
    ],
)
def test_dtypes(a: str, b: str, c: str, k: int, target: NvidiaTarget, transpose_a: bool, transpose_b: bool) -> None:
    # A swizzle of nibbles that no thread writes alone would be a race of the test's own copies.
    memory = row_major if a.endswith("int4") else swizzled
    case = Case(32, 48, k, a, c, b, transpose_a=transpose_a, transpose_b=transpose_b, target=target, a_memory=memory, b_memory=memory)
    assert case.plan.atom is not None
    check(case)


@pytest.mark.parametrize("num_threads", [32, 40, 64, 96, 160, 192, 256, 384])
@pytest.mark.parametrize("policy", list(GemmWarpPolicy))
def test_any_number_of_threads_under_any_policy(num_threads: int, policy: GemmWarpPolicy) -> None:
    check(Case(64, 48, 32, num_threads=num_threads, policy=policy))


@pytest.mark.parametrize("transpose_a, transpose_b", TRANSPOSES)
@pytest.mark.parametrize("m, n, k, threads", [(24, 104, 40, 384), (20, 50, 16, 64), (1, 64, 64, 128), (64, 1, 64, 128), (17, 33, 8, 96), (80, 24, 48, 128)])
def test_tiles_that_instructions_do_not_divide(m: int, n: int, k: int, threads: int, transpose_a: bool, transpose_b: bool) -> None:
    case = Case(m, n, k, num_threads=threads, transpose_a=transpose_a, transpose_b=transpose_b)
    assert case.plan.atom is not None
    check(case)


def test_the_accumulator_is_cleared_where_asked() -> None:
    check(Case(32, 32, 16, clear=True))
    check(Case(24, 20, 16, clear=True))
    check(Case(32, 32, 16, "float16", "float16", clear=True))


@pytest.mark.parametrize("c_dtype", ["float32", "float16"])
@pytest.mark.parametrize("is_cleared", [False, True])
def test_clearing_may_be_decided_when_the_kernel_runs(c_dtype: str, is_cleared: bool) -> None:
    case = Case(24, 32, 16, c_dtype=c_dtype)
    a, b, c = case.data()
    # Nothing that the compiler folds: every thread decides by its own number.
    case.clear_by_thread = is_cleared
    report = simulate(case.program(), {"A": a, "B": b, "C": c})
    np.testing.assert_array_equal(report.outputs["C"], case.expected(a, b, c, is_cleared=is_cleared))


@pytest.mark.parametrize("dtype", ["float16", "tfloat32", "int8"])
@pytest.mark.parametrize("transpose_a", [False, True])
def test_the_first_operand_may_be_a_fragment(dtype: str, transpose_a: bool) -> None:
    c_dtype = "int32" if dtype == "int8" else "float32"
    case = Case(64, 32, 96, dtype, c_dtype, a_in_registers=True, transpose_a=transpose_a, policy=GemmWarpPolicy.FullRow, transpose_b=True)
    body = check(case)
    assert sum(name.startswith("ldmatrix") for name in names(body)) == 1  # b alone


@pytest.mark.parametrize("memory", [row_major, swizzled])
def test_slots_of_a_pipeline_are_addressed(memory: object) -> None:
    check(Case(32, 64, 32, slots=3, a_memory=memory, b_memory=memory))


@pytest.mark.parametrize("margins, is_aligned", [((3, 8, 5, 16), True), ((3, 4, 0, 13), False), ((32, 64, 32, 64), True)])
@pytest.mark.parametrize("memory", [row_major, swizzled])
def test_operands_may_be_regions(margins: tuple[int, int, int, int], is_aligned: bool, memory: object) -> None:
    body = check(Case(32, 64, 32, margins=margins, a_memory=memory, b_memory=memory))
    # Rows of 16 bytes that are not aligned are loaded element by element.
    assert any(name.startswith("ldmatrix") for name in names(body)) is is_aligned or memory is swizzled


def test_float32_is_rounded_to_tf32_where_that_is_allowed() -> None:
    case = Case(32, 32, 16, "float32", float32_as_tf32=True)
    assert "cvt.tfloat32x1.float32x1" in names(check(case))
    a, b, c = case.data()
    a[:] = 1 + 2.0**-11  # lies between two numbers of tf32; the farther from zero of them is taken
    report = simulate(case.program(), {"A": a, "B": b, "C": c})
    np.testing.assert_array_equal(report.outputs["C"], case.expected(np.full_like(a, 1 + 2.0**-10), b, c, is_cleared=False))


def test_loads_are_one_step_ahead_of_products() -> None:
    body = check(Case(32, 32, 64, num_threads=32))
    (steps,) = (stmt for stmt in body if isinstance(stmt, For) and stmt.variable.name == "k")
    assert steps.kind is LoopKind.UNROLLED and isinstance(steps.body.body[0], If)  # type: ignore[attr-defined]


def test_long_products_keep_their_loop() -> None:
    body = check(Case(64, 64, 512, num_threads=32))
    (steps,) = (stmt for stmt in body if isinstance(stmt, For) and stmt.variable.name == "k")
    assert steps.kind is LoopKind.SERIAL


def test_fragments_that_lie_otherwise_are_faults_of_ours() -> None:
    case = Case(32, 32, 16)
    half, single = case.dtypes[0], case.dtypes[2]
    plan = case.plan
    shared = Buffer("s", half, (512,), Scope.SHARED, SPAN)
    tile = SharedTile(shared, row_major((32, 16), 16), (const(0), const(0)))
    wrong = Layout.identity(tile_axes((32, 32)))
    registers = Buffer("r", half, (64,), Scope.LOCAL, SPAN)
    accumulator = RegisterTile(Buffer("c", single, (8,), Scope.LOCAL, SPAN), plan.accumulator_layout)
    product = ThreadProduct(SPAN, plan, tile, tile, accumulator, False, True, const(False), const(0), const(0), lambda n, d, c: registers)
    lower_on_tensor_cores(product)
    with pytest.raises(CompilerBug, match="accumulator"):
        lower_on_tensor_cores(replace(product, c=RegisterTile(accumulator.buffer, wrong)))
    with pytest.raises(CompilerBug, match="operand a"):
        lower_on_tensor_cores(replace(product, a=RegisterTile(registers, wrong)))
