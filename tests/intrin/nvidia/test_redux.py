"""redux.sync: reductions over the lanes in a mask."""

from __future__ import annotations

import numpy as np
import pytest

from tests.intrin.nvidia.compiled_text import TARGETS, compile_for
from tests.intrin.nvidia.simulated_call import CallOnArrays
from tilewright import dtypes
from tilewright.errors import CompilerBug
from tilewright.intrin.nvidia.redux import redux
from tilewright.ir.stmt import ReduceKind
from tilewright.target.nvidia import NvidiaTarget

FULL = 0xFFFFFFFF


@pytest.mark.parametrize(
    "kind, function",
    [
        (ReduceKind.SUM, lambda x: np.sum(x, dtype=np.int32)),
        (ReduceKind.MAX, np.max),
        (ReduceKind.MIN, np.min),
        (ReduceKind.BIT_AND, np.bitwise_and.reduce),
        (ReduceKind.BIT_OR, np.bitwise_or.reduce),
        (ReduceKind.BIT_XOR, np.bitwise_xor.reduce),
    ],
)
@pytest.mark.parametrize("mask", [FULL, 0x0000FFF0])
def test_members_receive_the_result(kind: ReduceKind, function: object, mask: int) -> None:
    values = np.random.default_rng(1).integers(-(1 << 31), 1 << 31, (64, 1)).astype(np.int32)
    call = CallOnArrays(64, {"src": values}, {"mask": np.full(64, mask, np.uint32)})
    redux(kind, dtypes.int32).simulate(call)
    members = [lane for lane in range(32) if mask >> lane & 1]
    for warp in range(2):
        rows = [32 * warp + lane for lane in members]
        assert set(call.registers("dst")[rows, 0].tolist()) == {int(function(values[rows, 0]))}  # type: ignore[operator]


def test_wrong_uses_are_faults_of_ours() -> None:
    with pytest.raises(CompilerBug, match="float32"):
        redux(ReduceKind.SUM, dtypes.float32)
    masks = np.full(32, FULL, np.uint32)
    masks[3] = 1
    with pytest.raises(CompilerBug, match="different masks"):
        redux(ReduceKind.SUM, dtypes.int32).simulate(CallOnArrays(32, {"src": np.zeros((32, 1), np.int32)}, {"mask": masks}))


@pytest.mark.parametrize("target", TARGETS[:1], ids=lambda t: t.name)
def test_the_text_compiles(target: NvidiaTarget) -> None:
    assert compile_for(target, [redux(kind, dtype) for kind in ReduceKind for dtype in (dtypes.int32, dtypes.uint32)])
