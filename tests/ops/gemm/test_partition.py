"""Which instruction and which warps: layouts cover every tile, and agree with each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.dtypes import as_dtype
from tilewright.layout import match_instruction
from tilewright.ops.gemm.partition import GemmPlan, GemmWarpPolicy, choose_partition
from tilewright.target.nvidia import SM_80, SM_89, SM_90, NvidiaTarget

Square, FullRow, FullCol = GemmWarpPolicy


def plan(
    m: int,
    n: int,
    k: int,
    a: str = "float16",
    c: str = "float32",
    threads: int = 128,
    policy: GemmWarpPolicy = Square,
    target: NvidiaTarget = SM_80,
    b: str = "",
    **options: bool,
) -> GemmPlan:
    return choose_partition(m, n, k, as_dtype(a), as_dtype(b or a), as_dtype(c), threads, policy, target, **options)


def grid(*args: Any, **options: Any) -> tuple[int, int]:
    found = plan(*args, **options)
    return found.rows, found.columns


def test_policies_arrange_the_warps() -> None:
    assert grid(128, 128, 32) == (2, 2)
    assert grid(128, 128, 32, policy=FullRow) == (4, 1)
    assert grid(128, 128, 32, policy=FullCol) == (1, 4)
    assert grid(128, 128, 32, threads=256) == (4, 2)
    assert grid(64, 256, 32, threads=256) == (2, 4)
    assert grid(128, 256, 32, threads=64, policy=FullRow) == (2, 1)


def test_warps_that_a_policy_has_no_rows_for_take_columns() -> None:
    assert grid(64, 128, 32, threads=256, policy=FullRow) == (4, 2)
    assert grid(128, 16, 32, threads=128, policy=FullCol) == (2, 2)


def test_any_number_of_warps_is_used() -> None:
    assert grid(96, 64, 32, threads=96) == (3, 1)
    assert grid(128, 96, 32, threads=192) == (2, 3)
    assert grid(128, 192, 32, threads=384) == (4, 3)
    assert grid(16, 8, 16, threads=256) == (1, 1)


def test_a_tile_is_padded_where_that_keeps_more_warps_busy() -> None:
    """64 columns are 8 tiles: three warps take 3 each, with one more as padding, rather than one warp all."""
    found = plan(64, 64, 32, threads=96)
    assert (found.rows, found.columns) == (1, 3)
    assert found.accumulator_layout.out_axis("d1").extent == 72
    odd = plan(24, 104, 40, threads=384)
    assert odd.atom is not None and odd.atom.k == 8 and odd.steps == 5
    assert odd.accumulator_layout.out_axis("d0").extent == 32


@pytest.mark.parametrize(
    "a, c, k, target, atom",
    [
        ("float16", "float32", 64, SM_80, "mma.m16n8k16.f32.f16.f16.f32"),
        ("float16", "float32", 24, SM_80, "mma.m16n8k8.f32.f16.f16.f32"),
        ("float16", "float16", 64, SM_80, "mma.m16n8k16.f16.f16.f16.f16"),
        ("float16", "float16", 40, SM_80, "mma.m16n8k8.f16.f16.f16.f16"),
        ("bfloat16", "bfloat16", 64, SM_80, "mma.m16n8k16.f32.bf16.bf16.f32"),  # sums are kept in float32
        ("float16", "bfloat16", 64, SM_80, "mma.m16n8k16.f32.f16.f16.f32"),
        ("tfloat32", "float32", 12, SM_80, "mma.m16n8k4.f32.tf32.tf32.f32"),
        ("int8", "int32", 48, SM_80, "mma.m16n8k16.s32.s8.s8.s32"),
        ("uint8", "uint32", 64, SM_80, "mma.m16n8k32.s32.u8.u8.s32"),
        ("float64", "float64", 16, SM_80, "mma.m8n8k4.f64.f64.f64.f64"),
        ("float64", "float32", 16, SM_90, "mma.m16n8k16.f64.f64.f64.f64"),
        ("float8_e5m2", "float32", 32, SM_89, "mma.m16n8k32.f32.e5m2.e5m2.f32"),
    ],
)
def test_the_widest_instruction_that_divides_k_is_taken(a: str, c: str, k: int, target: NvidiaTarget, atom: str) -> None:
    found = plan(64, 64, k, a, c, target=target)
    assert found.atom is not None and found.atom.name == atom and not found.refusals


@pytest.mark.parametrize(
    "arguments, options, reason",
    [
        ((64, 64, 32, "float32"), {}, "float32 into float32 has no tensor-core instruction; its products are exact: use T.tfloat32"),
        ((64, 64, 32, "float8_e4m3fn"), {}, "float8_e4m3fn into float32 needs mma.sync fp8, which sm_80 has not"),
        ((64, 64, 4), {}, "K = 4 is not a multiple of 8, the least that a tensor-core instruction for float16 takes"),
        ((64, 64, 32), {"threads": 16}, "16 threads are no whole warp"),
        ((64, 64, 32, "int16", "int32"), {}, "int16 into int32 has no tensor-core instruction"),
        ((64, 64, 32, "float16", "float64"), {}, "float16 into float64 has no tensor-core instruction"),
    ],
)
def test_other_products_say_why_they_have_no_instruction(arguments: tuple[Any, ...], options: dict[str, Any], reason: str) -> None:
    found = plan(*arguments, **options)
    assert found.atom is None and found.a_layout is None and found.steps == 1
    assert len(found.refusals) == 1 and found.refusals[0].startswith(reason)


def test_float32_goes_to_tensor_cores_only_where_it_may_be_rounded() -> None:
    found = plan(64, 64, 32, "float32", float32_as_tf32=True)
    assert found.atom is not None and found.atom.a_dtype == "tfloat32"


DTYPES = [("float16", "float32"), ("int8", "int32"), ("tfloat32", "float32"), ("float64", "float64"), ("float32", "float32"), ("int4", "int32")]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from([1, 7, 8, 16, 24, 64, 96]),
    st.sampled_from(DTYPES),
    st.sampled_from([1, 20, 32, 48, 96, 128, 160, 224, 384, 1024]),
    st.sampled_from(list(GemmWarpPolicy)),
    st.booleans(),
    st.booleans(),
)
def test_layouts_cover_the_tile_and_agree(
    m: int, n: int, k: int, dtypes: tuple[str, str], threads: int, policy: GemmWarpPolicy, transpose_a: bool, transpose_b: bool
) -> None:
    found = plan(m, n, k, *dtypes, threads, policy, transpose_a=transpose_a, transpose_b=transpose_b)
    c = found.accumulator_layout
    assert [axis.name for axis in c.outs] == ["d0", "d1"]
    assert c.is_onto and c.out_axis("d0").extent >= m and c.out_axis("d1").extent >= n
    assert found.num_warps == max(1, threads // 32)
    if found.atom is None:
        return
    assert c.out_axis("d0").extent - m < found.atom.m * found.rows and c.out_axis("d1").extent - n < found.atom.n * found.columns
    match = match_instruction(c.rename(outs={"d0": "m", "d1": "n"}), found.atom.c_layout)
    assert match is not None and match.register_order == tuple(range(len(match.register_order)))
    a, b = found.a_fragment, found.b_fragment
    assert a is not None and b is not None and a.is_onto and b.is_onto
    assert match_instruction(a, found.atom.a_layout) is not None and match_instruction(b, found.atom.b_layout) is not None
    assert a.in_axis("step").extent == found.steps == b.in_axis("step").extent
    # Each warp holds the rows of a and the columns of b that its part of c needs, tile by tile.
    a_count, b_count, c_count = (layout.in_axis("reg").extent for layout in (found.atom.a_layout, found.atom.b_layout, found.atom.c_layout))
    rows, columns = a.in_axis("reg").extent // a_count, b.in_axis("reg").extent // b_count
    a_table, b_table, c_table = a.table(), b.table(), c.table()  # [reg, (step,) lane, warp, axis]
    first_rows = c_table[:: c_count * columns, 0, :, 0]
    np.testing.assert_array_equal(a_table[::a_count, 0, 0, :, 0], first_rows)
    first_columns = c_table[: c_count * columns : c_count, 0, :, 1]
    np.testing.assert_array_equal(b_table[::b_count, 0, 0, :, 1], first_columns)
    assert c_table.shape[0] == rows * columns * c_count
    # As the operand of a fragment it is the same map, on the axes as stored.
    held, stored = found.a_layout, ("k", "m") if transpose_a else ("m", "k")
    assert (held is None) is (a.out_axis("m").extent > m) and (found.b_layout is None) is (b.out_axis("n").extent > n)
    if held is None:
        return
    assert [axis.extent for axis in held.outs] == [a.out_axis(name).extent for name in stored]
    np.testing.assert_array_equal(held.table()[: a.in_axis("reg").extent, ..., stored.index("m")], a_table[:, 0, ..., 0])
