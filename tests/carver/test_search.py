"""Hints fit the machine, come in the order of what they promise, and follow from the sizes of the computation."""

from __future__ import annotations

import math

import pytest

import tilewright
from tests.execution import integers
from tilewright.carver.arch import CPU, CUDA, Architecture
from tilewright.carver.roller.rasterization import NoRasterization, Rasterization2DRow
from tilewright.carver.search import Hint, Operand, Problem, search
from tilewright.dtypes import as_dtype
from tilewright.kernels import gemm

HALF, SINGLE = as_dtype("float16"), as_dtype("float32")


def product(m: int, n: int, k: int, dtype: str = "float16") -> Problem:
    kind = as_dtype(dtype)
    return Problem((m, n), (k,), (Operand(kind, (0,), (0,)), Operand(kind, (1,), (0,))), kind, SINGLE, 2.0, is_product=True)


def all_hints(problem: Problem, architecture: Architecture) -> list[Hint]:
    return search(problem, architecture, 10_000)


@pytest.mark.parametrize("name", ["sm_80", "sm_86", "sm_89", "sm_90a"])
@pytest.mark.parametrize("problem", [product(4096, 4096, 4096), product(16, 4096, 512), product(100, 70, 30), product(512, 512, 512, "float32")])
def test_every_hint_fits_the_gpu(problem: Problem, name: str) -> None:
    architecture = CUDA(name)
    hints = all_hints(problem, architecture)
    assert hints and [h.estimated_time for h in hints] == sorted(h.estimated_time for h in hints)
    assert len({(tuple(h.block), tuple(h.rstep)) for h in hints}) == len(hints)
    for hint in hints:
        (m, n), (k,), threads = hint.block, hint.rstep, math.prod(hint.thread)
        assert hint.pipeline_stage * (m + n) * k * problem.operands[0].dtype.bytes <= architecture.target.shared_bytes_per_block
        assert threads <= 256 and threads % 32 == 0 and m * n <= 128 * threads
        assert [b // w for b, w in zip(hint.block, hint.warp, strict=True)] == [hint.thread[0], hint.thread[1] // 32]
        assert hint.warp[0] >= 16 and hint.warp[1] >= 8 and hint.use_tc is (problem.operands[0].dtype != "float32")
        assert m < 2 * max(problem.spatial[0], 16) and n < 2 * max(problem.spatial[1], 16)  # not twice what there is


def test_large_products_want_large_tiles_and_small_ones_want_many_blocks() -> None:
    architecture = CUDA("sm_90a")
    large, small, thin = (search(product(*sizes), architecture, 1)[0] for sizes in ((8192, 8192, 8192), (256, 256, 256), (16, 4096, 4096)))
    assert math.prod(large.block) >= 128 * 128 and large.rasterization_plan == Rasterization2DRow(8) and large.pipeline_stage > 1
    assert math.prod(small.block) < math.prod(large.block) and small.rasterization_plan == NoRasterization()
    assert thin.block[0] == 16


def test_a_cpu_takes_blocks_that_stay_in_a_cache_and_no_threads() -> None:
    hints = all_hints(product(1024, 1024, 1024, "float32"), CPU())
    for hint in hints:
        (m, n), (k,) = hint.block, hint.rstep
        assert 4 * (m * k + n * k + m * n) <= 256 << 10 and (hint.thread, hint.warp, hint.pipeline_stage, hint.use_tc) == ([], hint.block, 1, False)
    assert math.prod(hints[0].block) >= 64 * 64 > math.prod(hints[-1].block)


def test_axes_in_front_are_done_one_by_one() -> None:
    operand = Operand(HALF, (0, 1, 2), (0, 1))
    hints = all_hints(Problem((6, 40, 64), (3, 100), (operand,), HALF, SINGLE, 1.0), CUDA("sm_80"))
    assert all(len(h.block) == 3 and h.block[0] == 1 and len(h.rstep) == 2 and h.rstep[0] == 1 for h in hints)
    assert {h.block[1] for h in hints} >= {1, 32, 64} and max(h.rstep[1] for h in hints) == 128


def test_the_search_is_the_same_every_time_and_gives_no_more_than_asked() -> None:
    first, second = (search(product(1000, 1000, 1000), CUDA("sm_80"), 7) for _ in range(2))
    assert first == second and len(first) == 7


def test_hints_are_arguments_of_kernels() -> None:
    a, b = integers((100, 70)), integers((70, 90), seed=1)
    for hint in search(product(100, 90, 70, "float32"), CPU(), 3):
        kernel = gemm.matmul(100, 90, 70, block_M=hint.block[0], block_N=hint.block[1], block_K=hint.rstep[0])
        found = kernel(a, b)
        assert isinstance(kernel, tilewright.Kernel) and (found == a @ b).all()
