"""cp.async: what it asks of the simulator, and its text."""

from __future__ import annotations

import numpy as np
import pytest

from tests.intrin.nvidia.compiled_text import TARGETS, compile_for
from tests.intrin.nvidia.simulated_call import CallOnArrays
from tilewright.errors import CompilerBug
from tilewright.intrin.nvidia.cp_async import CP_ASYNC_COMMIT_GROUP, CP_ASYNC_WAIT_ALL, CP_ASYNC_WAIT_GROUP, CacheLevel, cp_async
from tilewright.target.nvidia import NvidiaTarget

COPIES = [cp_async(size, zeros, level) for size in (4, 8, 16) for zeros in (False, True) for level in CacheLevel if size == 16 or level is CacheLevel.ALL]


def test_copies_land_later_and_groups_are_waited_for() -> None:
    call = CallOnArrays(2, values={"valid_bytes": np.array([16, 4])}, immediates={"pending": 2})
    cp_async(16).simulate(call)
    cp_async(16, fills_zeros=True).simulate(call)
    for instruction in (CP_ASYNC_COMMIT_GROUP, CP_ASYNC_WAIT_GROUP, CP_ASYNC_WAIT_ALL):
        instruction.simulate(call)
    assert call.events == [("copy", "dst", "src", None), ("copy", "dst", "src", [16, 4]), "commit", ("wait", 2), "commit", ("wait", 0)]


@pytest.mark.parametrize("valid", [-1, 9])
def test_more_valid_bytes_than_there_are_is_a_fault_of_ours(valid: int) -> None:
    with pytest.raises(CompilerBug, match="valid bytes"):
        cp_async(8, fills_zeros=True).simulate(CallOnArrays(1, values={"valid_bytes": np.array([valid])}))


def test_sizes_and_caches() -> None:
    assert [cp_async(size).name for size in (4, 8, 16)] == ["cp.async.ca.4", "cp.async.ca.8", "cp.async.cg.16"]
    with pytest.raises(CompilerBug, match="copies 2 bytes"):
        cp_async(2)
    with pytest.raises(CompilerBug, match="copies 8 bytes"):
        cp_async(8, cache_level=CacheLevel.GLOBAL)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_the_text_compiles(target: NvidiaTarget) -> None:
    assert compile_for(target, [*COPIES, CP_ASYNC_COMMIT_GROUP, CP_ASYNC_WAIT_GROUP, CP_ASYNC_WAIT_ALL])
