"""Products without tensor cores, through the simulator."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.ops.gemm.simulated import check, names
from tests.ops.gemm.thread_products import SPAN, Case, row_major, swizzled
from tilewright.errors import CompilerBug
from tilewright.ir.buffer import Buffer, Scope
from tilewright.ir.expr import const
from tilewright.ir.thread import VectorCopy
from tilewright.ops.gemm.simt import lower_on_plain_arithmetic
from tilewright.ops.gemm.threads import RegisterTile, SharedTile, ThreadProduct

TRANSPOSES = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize("transpose_a, transpose_b", TRANSPOSES)
@pytest.mark.parametrize("m, n, k, threads", [(32, 32, 32, 128), (13, 37, 21, 96), (13, 38, 21, 20), (1, 1, 1, 32), (3, 5, 7, 1), (64, 80, 12, 160)])
def test_any_shape_on_any_number_of_threads(m: int, n: int, k: int, threads: int, transpose_a: bool, transpose_b: bool) -> None:
    check(Case(m, n, k, "float32", num_threads=threads, transpose_a=transpose_a, transpose_b=transpose_b))


@pytest.mark.parametrize("transpose_b", [False, True])
def test_operands_are_read_in_wide_accesses_without_conflicts(transpose_b: bool) -> None:
    body = check(Case(64, 64, 32, "float32", transpose_b=transpose_b), max_ways=1)
    assert not names(body)
    assert {stmt.src.buffer.name: stmt.size_bytes for stmt in body if isinstance(stmt, VectorCopy)} == {"a_shared": 16, "b_shared": 16}


@pytest.mark.parametrize(
    "a, c",
    [
        ("float16", "float64"),
        ("int16", "int32"),
        ("int8", "int64"),
        ("uint8", "int64"),
        ("float8_e4m3fn", "float32"),
        ("float8_e5m2", "bfloat16"),
        ("float32", "float16"),
        ("int32", "int32"),
    ],
)
def test_dtypes(a: str, c: str) -> None:
    case = Case(32, 24, 20, a, c)
    assert case.plan.atom is None
    check(case)


def test_regions_slots_and_clearing() -> None:
    check(Case(32, 32, 16, "float32", margins=(3, 4, 1, 8), a_memory=row_major, b_memory=row_major))
    check(Case(32, 32, 16, "float32", margins=(3, 1, 1, 3), a_memory=row_major, b_memory=row_major))
    check(Case(32, 32, 16, "float32", slots=2, a_memory=swizzled, b_memory=swizzled))
    check(Case(20, 30, 16, "float32", clear=True))
    check(Case(20, 30, 16, "float32", "float16", clear=True))


def test_operands_in_registers_are_faults_of_ours() -> None:
    case = Case(32, 32, 16, "float32")
    single = case.dtypes[0]
    registers = RegisterTile(Buffer("r", single, (64,), Scope.LOCAL, SPAN), case.plan.accumulator_layout)
    tile = SharedTile(Buffer("s", single, (512,), Scope.SHARED, SPAN), row_major((16, 32), 32), (const(0), const(0)))
    product = ThreadProduct(SPAN, case.plan, registers, tile, registers, False, False, const(False), const(0), const(0), lambda n, d, c: registers.buffer)
    with pytest.raises(CompilerBug, match="shared memory"):
        lower_on_plain_arithmetic(product)
    assert lower_on_plain_arithmetic(replace(product, a=replace(tile, memory=row_major((32, 16), 32))))
