"""Shuffles in blocks whose last warp is not whole: a lane that does not exist gives nothing, and a thread keeps its own value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilewright
import tilewright.language as T
from tests.execution import run
from tilewright.ir.stmt import Let, WarpExchange
from tilewright.ir.visit import statements
from tilewright.language.function import PrimFunc
from tilewright.passes import GPU_PASSES, run_passes
from tilewright.passes.context import GpuPassContext
from tilewright.passes.guard_shuffles import guard_shuffles
from tilewright.target.nvidia import SM_80

SHUFFLES: dict[str, tuple[Callable[[Any, int], Any], Callable[[int], int]]] = {
    "down": (lambda x, width: T.shfl_down(x, 3, width), lambda lane: 3),
    "up": (lambda x, width: T.shfl_up(x, 3, width), lambda lane: 3),
    "xor": (lambda x, width: T.shfl_xor(x, 5, width), lambda lane: 5),
    "lane": (lambda x, width: T.shfl_sync(x, 6, width), lambda lane: 6),
    "computed lane": (lambda x, width: T.shfl_sync(x, x * 7, width), lambda lane: lane * 7),
}


def shuffle(name: str, threads: int, width: int = 32) -> PrimFunc:
    @T.prim_func
    def kernel(A: T.Tensor((threads,), "int32"), B: T.Tensor((threads,), "int32")):
        with T.Kernel(1, threads=threads):
            tx = T.get_thread_binding(0)
            value = T.alloc_var("int32")
            value = A[tx]
            value = SHUFFLES[name][0](value, width)
            B[tx] = value

    return kernel


def expected(name: str, own: np.ndarray, width: int) -> list[int]:
    result = []
    for t, x in enumerate(own):
        lane, operand = t % 32, SHUFFLES[name][1](int(x))
        start = lane - lane % width
        if name in ("lane", "computed lane"):
            source = start + operand % width
        else:
            source = {"down": lane + operand, "up": lane - operand, "xor": lane ^ operand}[name]
            source = lane if source >= start + width or (name == "up" and source < start) else source
        place = t - lane + source
        result.append(int(own[place] if place < len(own) else x))
    return result


@pytest.mark.parametrize("name", SHUFFLES)
@pytest.mark.parametrize("threads", [1, 17, 64, 77])
@pytest.mark.parametrize("width", [8, 32])
def test_the_reference_cpus_and_gpus_agree(name: str, threads: int, width: int) -> None:
    kernel = shuffle(name, threads, width)
    own = np.arange(threads, dtype=np.int32)
    wanted = expected(name, own, width)
    assert run(kernel, A=own, B=np.zeros_like(own))["B"].tolist() == wanted
    for target in ("cpu", "simulate"):
        found = np.zeros_like(own)
        tilewright.compile(kernel, target=target)(own, found)
        assert found.tolist() == wanted


@pytest.mark.parametrize(
    ("name", "threads", "is_guarded"), [("down", 64, False), ("down", 40, True), ("up", 40, False), ("lane", 40, False), ("lane", 38, True)]
)
def test_only_shuffles_that_may_name_an_absent_lane_are_guarded(name: str, threads: int, is_guarded: bool) -> None:
    passes = GPU_PASSES[: GPU_PASSES.index(guard_shuffles) + 1]
    body = run_passes(shuffle(name, threads).program, GpuPassContext(SM_80), passes).launches[0].body
    (made,) = [s for s in statements(body) if isinstance(s, WarpExchange)]
    assert any(isinstance(s, Let) and s.variable is made.value for s in statements(body)) is is_guarded
